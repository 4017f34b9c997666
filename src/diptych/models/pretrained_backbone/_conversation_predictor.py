"""The predictor of models that converse about pictures: texts after prompts, their likelihood, answers to questions.

N prompts or pictures, T tokens, A places at which something is said, Q vectors of a picture, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import GREEDY, Likelihood, Prompt
from diptych.capabilities.verbs import Verb
from diptych.core.losses import IGNORED
from diptych.core.sample import Turn
from diptych.core.sampling import TextSampling
from diptych.data.batches.conversation_reader import ConversationTokens
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.pixels.images import ImagePreprocessing, pixels_of
from diptych.data.words.chat import IMAGE
from diptych.data.words.tokenizer import pad_tokens
from diptych.decoding.decoder import Decoder
from diptych.decoding.texts import written_texts
from diptych.models._batches import batches, seeded_batches
from diptych.models._model_predictor import ConfigT, ModelPredictor
from diptych.models.pretrained_backbone._answers import answers, parts_of, reading_a_prompt
from diptych.models.pretrained_backbone._language_model import Said
from diptych.models.pretrained_backbone._prefixed import Prefixed
from diptych.objectives.autoregressive import token_log_probabilities

PREDICTION_BATCH = 32


class ConversationPredictor(ModelPredictor[ConfigT, ConversationProcessor, Prefixed], Generic[ConfigT]):
    """A prompt is what a user says, pictures where they stand in it."""

    @torch.inference_mode()
    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        """What the assistant says to each prompt of texts and pictures, in any order.

        Raises:
            DiptychError: more pictures in a prompt than the model takes.
            TextTooLong: a prompt has no room for one more token.
            ConfigError: not one seed a prompt.
        """
        written: list[str] = []
        for some, drawn in seeded_batches(prompts, seeds, "prompts", PREDICTION_BATCH):
            written += self._written(some, sampling, drawn)
        return written

    def _written(self, prompts: Sequence[Prompt], sampling: TextSampling, seeds: Sequence[int]) -> list[str]:
        words, most = self.processor.tokenizer, self._most()
        read = [self._opened(prompt) for prompt in prompts]
        decoder = self.decoder(read, _pictures(prompts), most)
        rooms = [most - len(one.tokens) for one in read]
        found = written_texts(decoder, rooms, sampling, [words.end_id], seeds)
        return [words.decode(row).strip() for row in found]

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
        told = [parts_of(visual, prompt) for visual, prompt in zip(visuals, prompts, strict=True)]
        return self._likelihood(told, texts)

    @torch.inference_mode()
    def _likelihood(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Likelihood:
        """Of each text after its prompt of texts and pictures."""
        parts = []
        for some in batches(list(zip(prompts, texts, strict=True)), PREDICTION_BATCH):
            read = [self._answered(prompt, text) for prompt, text in some]
            states_NAD, labels_NA = self.said(read, _pictures([prompt for prompt, _ in some]))
            chances_NA = token_log_probabilities(self.module.logits(states_NAD), labels_NA)
            parts.append((chances_NA.sum(1), (labels_NA != IGNORED).sum(1)))
        return Likelihood.joined(parts)

    def answer(
        self, visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """What the model says to each question; of given choices the likeliest.

        Raises:
            DiptychError: not one question, or one row of choices, a visual.
        """
        return answers(self, visuals, questions, choices)

    def _most(self) -> int:
        return min(self.processor.config.max_length, self.module.language.context)

    def _opened(self, prompt: Prompt) -> ConversationTokens:
        return self._read([Turn("user", written_out(prompt))], len(_pictures([prompt])), opens=True)

    def _answered(self, prompt: Prompt, text: str) -> ConversationTokens:
        turns = [Turn("user", written_out(prompt)), Turn("assistant", text)]
        return self._read(turns, len(_pictures([prompt])), opens=False)

    def _read(self, turns: Sequence[Turn], pictures: int, opens: bool) -> ConversationTokens:
        with reading_a_prompt():
            read = self.processor.opened if opens else self.processor.read
            return read(turns, pictures, "prompt")

    def said(self, read: Sequence[ConversationTokens], pictures: Sequence[Any]) -> Said:
        """What is said in rows, whose pictures are those of the first row first."""
        labels_NT, lengths_N = pad_tokens([one.labels for one in read], IGNORED)
        x_NTD = torch.nn.utils.rnn.pad_sequence(self._vectors(read, pictures), batch_first=True)
        return self.module.language.said(x_NTD, lengths_N.to(self.device), labels_NT.to(self.device))

    def decoder(self, read: Sequence[ConversationTokens], pictures: Sequence[Any], room: int) -> Decoder:
        """Of rows that have been read; `room` is the longest row.

        Raises:
            TextTooLong: a row leaves no room for one more token.
        """
        return self.module.language.decoder(self._vectors(read, pictures), room)

    def _vectors(self, read: Sequence[ConversationTokens], pictures: Sequence[Any]) -> list[Tensor]:
        """What the language model reads of each row [T, D]."""
        seen = self.seen(read, pictures).flatten(0, 1) if pictures else None
        rows, at = [], 0
        for one in read:
            x_TD = self.module.language.embed(torch.tensor([one.tokens], device=self.device))[0]
            places_T = torch.tensor(one.places, device=self.device)
            if count := int(places_T.sum()):
                assert seen is not None, "places without a picture"
                x_TD = x_TD.masked_scatter(places_T[:, None], seen[at : at + count].to(x_TD.dtype))
                at += count
            rows.append(x_TD)
        return rows

    def seen(self, read: Sequence[ConversationTokens], pictures: Sequence[Any]) -> Tensor:
        """Vectors [N, Q, D] of the pictures of rows."""
        return self.module.see(self.pixels(pictures).to(self.device))

    def pixels(self, visuals: Sequence[Any]) -> Tensor:
        """Pictures as the tower takes them: uint8 [N, 3, H, W]."""
        return pixels_of(visuals, self.processor.config.image, 2)

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """What every picture goes through first."""
        return self.processor.config.image

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")
        self.module.tower.write_config(folder / "tower")
        self.module.language.write_config(folder / "language")


def _pictures(prompts: Sequence[Prompt]) -> list[Any]:
    """Those of all prompts, in order."""
    return [part for prompt in prompts for part in prompt if not isinstance(part, str)]


def written_out(prompt: Prompt) -> str:
    """A prompt as one text; behind a picture a new line, as a conversation in training writes it."""
    text = " ".join(part if isinstance(part, str) else IMAGE for part in prompt)
    return text.replace(f"{IMAGE} ", f"{IMAGE}\n")
