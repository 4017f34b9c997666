"""Matching: questions whose answers are known, for models whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import Held
from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError
from diptych.core.records.results import read_samples
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.evaluation.runner import evaluate

COLOURS = ("red", "green", "blue", "grey")


def sample(index: int, texts: tuple[str, ...]) -> Sample:
    image = Image(pixels_HWC=np.full((8, 8, 3), index, np.uint8), name=f"p{index}")
    return Sample(f"k{index}", (image,), texts)


SOURCE = Held([sample(i, (f"a {colour} thing", colour)) for i, colour in enumerate(COLOURS)])


class Matcher(Predictor):
    """Knows the true colour of picture i, wrong for those in `wrong`; constant where told so."""

    VERBS = ("score_pairs",)

    def __init__(self, wrong: Sequence[int] = (), constant: bool = False) -> None:
        self.wrong, self.constant, self.name = wrong, constant, "matcher"
        self.module = torch.nn.Linear(1, 1)

    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        indices = [int(visual.pixels_HWC[0, 0, 0]) for visual in visuals]
        right = [float((COLOURS[i] in text) != (i in self.wrong)) for i, text in zip(indices, texts, strict=True)]
        return torch.zeros(len(texts)) if self.constant else torch.tensor(right)

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Matcher:
        return cls()


def test_accuracy_is_the_share_of_right_preferences(tmp_path: Path) -> None:
    (result,) = evaluate(Matcher(wrong=(2,)), ["matching"], SOURCE, folder=tmp_path)
    assert result.metrics["accuracy"].value == 0.75
    assert result.metrics["accuracy"].chance == 0.5
    for record in read_samples(tmp_path / "matching"):
        own, other = record.prompt
        colour = COLOURS[int(record.key[1:])]
        assert colour in own and colour not in other


def test_a_constant_model_scores_zero_strictly_and_chance_by_expectation() -> None:
    (result,) = evaluate(Matcher(constant=True), ["matching"], SOURCE)
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values == {"accuracy": 0.0, "accuracy_expected": 0.5, "tie_rate": 1.0}


def test_samples_without_a_question_are_counted_with_their_reason(tmp_path: Path) -> None:
    source = Held([sample(0, ("red",)), sample(1, ("green",)), sample(2, ())])
    (result,) = evaluate(Matcher(), ["matching"], source, folder=tmp_path)
    assert (result.counts.evaluated, result.counts.failed) == (2, 1)
    with pytest.raises(DataError, match="no two pictures"):
        evaluate(Matcher(), ["matching"], Held([sample(0, ("red",)), sample(1, ("red", "green"))]))
