"""Any public vision-language model, as it is: `transformers` runs it, its own processor and chat template read for it.

A folder or hub id of an image-text-to-text model meets every benchmark by verbs. What it is told and what it is shown
is written by its own template and tokenised by its own processor; its tokens are drawn here, so that a seed means the
same as for any other model. It may be tuned as well: the tower as it is, the loss on what the assistant says.

`LlavaForConditionalGeneration` folders are read by llava.py, on our own parts, unless this file's `weights_from` is
asked to.

B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import GREEDY, Likelihood, Prompt
from diptych.capabilities.load import folder_of
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.errors import TextTooLong
from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.sample import Sample, Turn
from diptych.core.sampling import TextSampling
from diptych.core.task import Task
from diptych.core.visual import Image, as_image
from diptych.data.words.chat import IMAGE
from diptych.layers.backbone_folder import transformers_for
from diptych.models._batches import batches, seeded_batches
from diptych.models.pretrained_backbone._answers import answers, reading_a_prompt
from diptych.models.pretrained_backbone._public_files import Public, public_from_config, read_public, write_public
from diptych.models.pretrained_backbone._public_paligemma import PrefixReader
from diptych.models.pretrained_backbone._public_processor import PublicProcessor
from diptych.models.pretrained_backbone._public_reader import ChatReader, Reader
from diptych.models.pretrained_backbone._public_rows import Joined, PublicBatch, Row, joined
from diptych.models.pretrained_backbone._public_tiny import tiny_llava
from diptych.models.pretrained_backbone._public_writing import written_rows
from diptych.objectives.autoregressive import token_log_probabilities

VERBS = ("generate_text", "text_likelihood", "answer")
READS = (
    "Idefics2ForConditionalGeneration",
    "Idefics3ForConditionalGeneration",
    "LlavaNextForConditionalGeneration",
    "PaliGemmaForConditionalGeneration",
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
)
PREDICTION_BATCH = 8
"""Rows of public models have hundreds of tokens of a picture."""
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

    VERBS = VERBS

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
            rows = [self._opened(prompt) for prompt in some]
            written = written_rows(self.module, self.reader, self._here(rows), sampling, drawn)
            found += [self.reader.words(row) for row in written]
        return found

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

    def _opened(self, prompt: Prompt) -> Row:
        text = "\n".join(part if isinstance(part, str) else IMAGE for part in prompt)
        images = [as_image(part) for part in prompt if not isinstance(part, str)]
        row = self._read([Turn("user", text)], images, opens=True)
        if row.length >= self.reader.context:
            raise TextTooLong(f"a prompt of {row.length} tokens leaves no room to go on in {self.reader.context}")
        return row

    def _answered(self, visual: Any | None, prompt: str, text: str) -> Row:
        images = [] if visual is None else [as_image(visual)]
        asked = f"{IMAGE}\n{prompt}" if images else prompt
        return self._read([Turn("user", asked), Turn("assistant", text)], images, opens=False)

    def _read(self, turns: Sequence[Turn], images: Sequence[Image], opens: bool) -> Row:
        with reading_a_prompt():
            read = self.reader.opened if opens else self.reader.read
            return read(turns, images, "prompt")

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


class PublicTask(Task[PublicBatch]):
    """Next-token loss of what the assistant says. Towers stay as they are; all else is trained."""

    processor: PublicProcessor

    def __init__(self, config: Config, public: Public, name: str = "public") -> None:
        super().__init__()
        self.config, self.public, self.name = config, public, name
        self.model = public.module
        for tower in towers(self.model):
            tower.requires_grad_(False)
        self.processor = PublicProcessor(reader_of(public, config.max_length, name))

    def losses(self, batch: PublicBatch, phase: str = "main") -> Losses:
        chances_B, counts_B = answer_chances(self.model, joined(batch.rows, self.processor.reader.pad_id))
        return {"answers": Part(-chances_B.sum(), int(counts_B.sum()))}

    def counts(self, batch: PublicBatch, phase: str = "main") -> dict[str, float]:
        return {"answers": sum(int((row.labels_1T[:, 1:] != IGNORED).sum()) for row in batch.rows)}

    def predictor(self) -> PublicPredictor:
        return PublicPredictor(self.config, self.public, self.name)

    def train(self, mode: bool = True) -> Self:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        for tower in towers(self.model):
            tower.eval()
        return self


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
    module: Any = public.module
    kind = PrefixReader if module.config.model_type == "paligemma" else ChatReader
    return kind(public, max_length, name)


def towers(module: nn.Module) -> list[nn.Module]:
    """The pretrained parts of a model that are not its language model."""
    model: Any = module
    pretrained = transformers_for("a public model").PreTrainedModel
    parts = [part for part in model.base_model.children() if isinstance(part, pretrained)]
    return [part for part in parts if part is not model.get_decoder()]


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, PublicTask]:
    """A random LLaVA at its smallest, with a tokenizer that is fitted to the samples."""
    return {"llava": PublicTask(Config(), tiny_llava(samples))}


def weights_from(reference: str | Path) -> PublicPredictor:
    """A `transformers` image-text-to-text folder or hub id.

    Raises:
        CheckpointError: the folder is no such model, a truncated one, or lacks weights.
        ConfigError: it has no chat template, or a tokenizer that cannot be used.
    """
    folder = folder_of(reference)
    return PublicPredictor(Config(), read_public(folder), folder.name)
