"""Made-up models that answer: they look at the colour of a picture, or at nothing, and write, choose or rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from diptych.capabilities.generator import GREEDY, Likelihood, Prompt
from diptych.capabilities.predictor import Predictor
from diptych.core.sampling import TextSampling
from diptych.data.pixels.decode import decode

NAMES = ("red", "green", "blue")


def colour_of(visual: Any) -> str:
    """The strongest colour of a picture's middle."""
    pixels = decode(visual, visual.name)
    return NAMES[int(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].argmax())]


class Writer(Predictor):
    """Answers as a function of picture and question says; chooses it where it is among the choices, else the first."""

    VERBS: tuple[str, ...] = ("answer",)

    def __init__(self, says: Callable[[Any, str], str], name: str = "writer") -> None:
        self.says, self.name, self.asked = says, name, list[str]()
        self.module = nn.Linear(1, 1)
        for weight in self.module.parameters():
            nn.init.zeros_(weight)

    def answer(
        self, visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        self.asked += questions
        said = [self.says(visual, question) for visual, question in zip(visuals, questions, strict=True)]
        if choices is None:
            return said
        return [one if one in some else some[0] for one, some in zip(said, choices, strict=True)]

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        raise NotImplementedError


class Narrator(Writer):
    """The same by `generate_text` alone."""

    VERBS = ("generate_text",)

    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        return [self.says(picture, question) for picture, question in prompts]


class Scorer(Writer):
    """Scores a text by whether it ends with what it would say."""

    VERBS = ("score",)

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(text.endswith(self.says(visual, text))) for text in texts] for visual in visuals])


class Likely(Writer):
    """log p of a text: -1 for what it would say and -3 for anything else, per token; it writes what it would say."""

    VERBS = ("answer", "text_likelihood")

    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        rows = [
            -1.0 if visual is not None and self.says(visual, prompt) == text else -3.0
            for visual, prompt, text in zip(visuals, prompts, texts, strict=True)
        ]
        return Likelihood(torch.tensor(rows, dtype=torch.float64), torch.ones(len(rows), dtype=torch.int64))
