"""Made-up models for the tests of what rests on likelihoods: they know the scenes, and what they like to say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from diptych.capabilities.generator import Likelihood
from diptych.capabilities.predictor import Predictor
from diptych.core.seeding import unit_interval
from diptych.core.source import Source


class Knows:
    """Which texts are true of which pictures of a source, by the pictures' pixels."""

    def __init__(self, source: Source) -> None:
        self.true: dict[bytes, set[str]] = {}
        for index in range(len(source)):
            sample = source[index]
            pairs = sample.meta.get("negatives", {})
            said = {*sample.texts, *(pair["true"] for pair in pairs.values()), str(sample.meta.get("class"))}
            for number, visual in enumerate(sample.visuals):
                # Of a pair each picture has the caption at its own place.
                own = said if len(sample.visuals) == 1 else {sample.texts[number]}
                self.true[visual.pixels_HWC.tobytes()] = own

    def says(self, visual: Any, text: str) -> bool:
        return text in self.true[visual.pixels_HWC.tobytes()]


class Captioner(Predictor):
    """log p(text | picture) per token: how much it likes the text by itself, and `sees` more where the text is true.

    What it likes is a hash of the text in [-10 * liking, 0]; without a picture that is all.
    """

    VERBS: tuple[str, ...] = ("text_likelihood",)

    def __init__(self, knows: Knows, sees: float = 1.0, liking: float = 1.0) -> None:
        self.knows, self.sees, self.liking, self.name = knows, sees, liking, "captioner"
        self.module = nn.Linear(1, 1)
        nn.init.ones_(self.module.weight)
        nn.init.ones_(self.module.bias)

    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        counts = torch.tensor([len(text.split()) + 1 for text in texts])
        rows = [
            -20
            - 10 * self.liking * unit_interval(text)
            + self.sees * (visual is not None and self.knows.says(visual, text))
            for visual, text in zip(visuals, texts, strict=True)
        ]
        return Likelihood(torch.tensor(rows, dtype=torch.float64) * counts, counts)

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        raise NotImplementedError


class Painter(Captioner):
    """log p(picture | text): `sees` more where the text is true; what else it is depends on the picture alone."""

    VERBS = ("image_likelihood",)
    likelihood_is = "exact"

    def image_likelihood(self, texts: Sequence[str | None], visuals: Sequence[Any]) -> Likelihood:
        rows = [
            -1000 - float(visual.pixels_HWC.mean()) + self.sees * (text is not None and self.knows.says(visual, text))
            for visual, text in zip(visuals, texts, strict=True)
        ]
        return Likelihood(torch.tensor(rows, dtype=torch.float64), torch.full((len(rows),), 64))
