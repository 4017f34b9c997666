"""A public model's verbs: texts, likelihoods and answers by its own template, and boxes where its writing is known.

B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import GREEDY, Likelihood, Prompt
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.errors import TextTooLong
from diptych.core.losses import IGNORED
from diptych.core.sample import Turn
from diptych.core.sampling import TextSampling
from diptych.core.visual import Box, Image, as_image
from diptych.data.pixels.decode import decode
from diptych.data.words.chat import IMAGE
from diptych.models._batches import batches, seeded_batches
from diptych.models.pretrained_backbone._answers import answers, reading_a_prompt
from diptych.models.pretrained_backbone._public_boxes import FORMATS, BoxFormat, Seen
from diptych.models.pretrained_backbone._public_files import Public, public_from_config, write_public
from diptych.models.pretrained_backbone._public_paligemma import PrefixReader
from diptych.models.pretrained_backbone._public_reader import ChatReader, Reader
from diptych.models.pretrained_backbone._public_rows import Joined, PublicBatch, Row, joined
from diptych.models.pretrained_backbone._public_writing import written_rows
from diptych.objectives.autoregressive import token_log_probabilities

PREDICTION_BATCH = 8
"""Rows of public models have hundreds of tokens of a picture."""
_BOXES = TextSampling(64)
"""A box in JSON, where every digit is a token."""
_FILES = "public"


@dataclass(frozen=True)
class Config(ModelConfig):
    """All sizes are the folder's.

    Attributes:
        max_length: the longest conversation in tokens, pictures counted; 0 for what the model was made for.
    """

    max_length: int = 0


class PublicPredictor(Predictor):
    """Talks about pictures. A prompt is what a user says, pictures where they stand in it."""

    VERBS: ClassVar[tuple[str, ...]] = ("generate_text", "text_likelihood", "answer")

    def __init__(self, config: Config, public: Public, name: str) -> None:
        self.config = config
        self.public = public
        self.module = public.module
        self.name = name
        self.reader = reader_of(public, config.max_length, name)

    @torch.inference_mode()
    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        """What the assistant says to each prompt of texts and pictures, in any order.

        Raises:
            DiptychError: a prompt that the chat template cannot put.
            TextTooLong: a prompt has no room for one more token.
            ConfigError: not one seed a prompt.
        """
        found: list[str] = []
        for some, drawn in seeded_batches(prompts, seeds, "prompts", PREDICTION_BATCH):
            found += self._written([self._opened(prompt) for prompt in some], sampling, drawn)
        return found

    def _written(self, rows: Sequence[Row], sampling: TextSampling, seeds: Sequence[int]) -> list[str]:
        written = written_rows(self.module, self.reader, self._here(rows), sampling, seeds)
        return [self.reader.words(row) for row in written]

    @torch.inference_mode()
    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        """log p(text i | visual i, prompt i), summed over the text's tokens and what ends it; None shows nothing.

        Raises:
            DiptychError: not one prompt and one text a visual.
            TextTooLong: picture, prompt and text do not fit.
        """
        same_length(visuals, texts, Verb.TEXT_LIKELIHOOD)
        same_length(visuals, prompts, Verb.TEXT_LIKELIHOOD)
        parts = []
        for some in batches(list(zip(visuals, prompts, texts, strict=True)), PREDICTION_BATCH):
            rows = [self._answered(visual, prompt, text) for visual, prompt, text in some]
            parts.append(answer_chances(self.module, joined(self._here(rows), self.reader.pad_id)))
        return Likelihood.joined(parts)

    def answer(
        self, visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """What the model says to each question; of given choices the likeliest.

        Raises:
            DiptychError: not one question, or one row of choices, a visual.
        """
        return answers(self, visuals, questions, choices)

    def _opened(self, prompt: Prompt, marks: frozenset[str] = frozenset()) -> Row:
        text = "\n".join(part if isinstance(part, str) else IMAGE for part in prompt)
        images = [as_image(part) for part in prompt if not isinstance(part, str)]
        with reading_a_prompt():
            row = self.reader.opened([Turn("user", text)], images, "prompt", marks)
        if row.length >= self.reader.context:
            raise TextTooLong(f"a prompt of {row.length} tokens leaves no room to go on in {self.reader.context}")
        return row

    def _answered(self, visual: Any | None, prompt: str, text: str) -> Row:
        images = [] if visual is None else [as_image(visual)]
        asked = f"{IMAGE}\n{prompt}" if images else prompt
        with reading_a_prompt():
            return self.reader.read([Turn("user", asked), Turn("assistant", text)], images, "prompt")

    def _here(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        return PublicBatch(("",) * len(rows), tuple(rows)).to(self.device).rows

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config)}

    def save_files(self, folder: Path) -> None:
        write_public(self.public, folder / _FILES)

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        return cls(config, public_from_config(folder / _FILES), str(description["name"]))


class PointingPredictor(PublicPredictor):
    """Says where something is, too."""

    VERBS: ClassVar[tuple[str, ...]] = (*PublicPredictor.VERBS, "locate")

    @torch.inference_mode()
    def locate(self, visuals: Sequence[Any], phrases: Sequence[str]) -> list[Box | None]:
        """The first box that the model writes when it is asked in its own way; None where it writes none.

        Raises:
            DiptychError: not one phrase a visual, or a phrase with a control token.
            TextTooLong: a phrase does not fit.
            BadSample: a picture cannot be decoded.
        """
        same_length(visuals, phrases, Verb.LOCATE)
        found: list[Box | None] = []
        for some in batches(list(zip([as_image(one) for one in visuals], phrases, strict=True)), PREDICTION_BATCH):
            rows = [self._asked(image, phrase) for image, phrase in some]
            said = self._written(rows, _BOXES, [0] * len(rows))
            for (image, phrase), row, text in zip(some, rows, said, strict=True):
                found.append(self._box(image, phrase, row, text))
        return found

    @property
    def _format(self) -> BoxFormat:
        return FORMATS[model_type(self.public)]

    def _asked(self, image: Image, phrase: str) -> Row:
        with reading_a_prompt():
            self.reader.require_plain(phrase, "phrase")
        return self._opened([image, self._format.asked(phrase)], self._format.marks)

    def _box(self, image: Image, phrase: str, row: Row, said: str) -> Box | None:
        height, width = decode(image, image.name).shape[:2]
        given, module = Seen(width, height), self.public.module
        return self._format.first_box(said, seen_by(module, row) or given, given, phrase)


def seen_by(module: Any, row: Row) -> Seen | None:
    """Sizes of a row's only picture as the model sees it, where it keeps the picture's shape; None elsewhere."""
    grid_13 = row.inputs.get("image_grid_thw")
    if grid_13 is None:
        return None
    patch = int(module.config.vision_config.patch_size)
    return Seen(int(grid_13[0, 2]) * patch, int(grid_13[0, 1]) * patch)


def model_type(public: Public) -> str:
    """What its configuration calls it."""
    module: Any = public.module
    return str(module.config.model_type)


def predictor_of(config: Config, public: Public, name: str) -> PublicPredictor:
    """One that points where it is known how the model writes boxes."""
    return (PointingPredictor if model_type(public) in FORMATS else PublicPredictor)(config, public, name)


def answer_chances(module: nn.Module, rows: Joined) -> tuple[Tensor, Tensor]:
    """log p [B] of each row's answers, and of how many tokens [B]. Logits are computed from the first answer on."""
    learned_T = (rows.labels_BT != IGNORED).any(0)
    kept = max(rows.labels_BT.shape[1] - int(learned_T.int().argmax()) + 1, 2)
    kind = next(module.parameters()).dtype
    inputs = {name: one.to(kind) if one.is_floating_point() else one for name, one in rows.inputs.items()}
    logits_BTV = module(**inputs, use_cache=False, logits_to_keep=kept).logits[:, :-1]
    labels_BT = rows.labels_BT[:, -logits_BTV.shape[1] :]
    return token_log_probabilities(logits_BTV, labels_BT).sum(1), (labels_BT != IGNORED).sum(1)


def reader_of(public: Public, max_length: int, name: str) -> Reader:
    """How its conversations are written: PaliGemma was taught none, every other model has a template.

    Raises:
        ConfigError: it has no template, or its tokenizer cannot be used.
    """
    kind = PrefixReader if model_type(public) == "paligemma" else ChatReader
    return kind(public, max_length, name)
