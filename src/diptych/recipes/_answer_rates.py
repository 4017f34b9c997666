"""How many questions a model answers, and how many it would answer without their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from diptych.capabilities.predictor import Predictor
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.source import Source

_SHORT = TextSampling(16)
Shown = Literal["own", "withheld", "swapped"]
"""Its own picture, none, or that of another question."""


@torch.inference_mode()
def answered(model: Predictor, source: Source, most: int, shown: Shown = "own") -> float:
    """The share of the first questions of a source that a model answers word for word."""
    samples: list[Sample] = [source[index] for index in range(min(most, len(source)))]
    asked = [sample for sample in samples if len(sample.turns) > 1]
    if not asked:
        return 0.0
    right = [
        _plain(text) == _plain(one.turns[1].text) for text, one in zip(_said(model, asked, shown), asked, strict=True)
    ]
    return sum(right) / len(right)


def _said(model: Predictor, asked: Sequence[Sample], shown: Shown) -> list[str]:
    questions, images = [one.turns[0].text for one in asked], [one.image for one in asked]
    if shown == "withheld":
        found: list[str] = model.generate_text([[question] for question in questions], _SHORT)
        return found
    if shown == "swapped":
        images = [*images[1:], images[0]]
    answers: list[str] = model.answer(images, questions)
    return answers


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")
