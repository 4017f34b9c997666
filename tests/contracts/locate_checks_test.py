"""The check of models that point refuses what it is there to refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from contract import eight_samples
from locate_checks import boxes_are_given, located

from diptych.capabilities.derive import same_length
from diptych.capabilities.predictor import Predictor
from diptych.core.visual import Box

Answer = Callable[[Sequence[Any], Sequence[str]], list[Box | None]]


class Points(Predictor):
    """As a function does."""

    VERBS = ("locate",)
    name = "points"

    def __init__(self, answer: Answer) -> None:
        self.locate_with, self.module, self.calls = answer, torch.nn.Linear(1, 1), 0

    def locate(self, visuals: Sequence[Any], phrases: Sequence[str]) -> list[Box | None]:
        self.calls += 1
        same_length(visuals, phrases, "locate")
        return self.locate_with(visuals, phrases)

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        raise NotImplementedError


def by_phrase(visuals: Sequence[Any], phrases: Sequence[str]) -> list[Box | None]:
    return [None if phrase == "it" else Box(0, 1, len(phrase) % 30 + 1, 32, phrase) for phrase in phrases]


def test_a_model_that_points_passes() -> None:
    boxes_are_given(Points(by_phrase), eight_samples())
    rows = located(Points(lambda visuals, phrases: [None] * len(phrases)), eight_samples())
    assert torch.equal(rows, torch.full((8, 4), -1.0))


WRONG: dict[str, tuple[Answer, str]] = {
    "outside": (lambda _, phrases: [Box(0, 0, 33, 9, phrase) for phrase in phrases], "not inside 32"),
    "no area": (lambda _, phrases: [Box(3, 0, 3, 9, phrase) for phrase in phrases], "not inside 32"),
    "unlabelled": (lambda _, phrases: [Box(0, 0, 3, 9) for _ in phrases], "'' for 'red circle'"),
    "one too many": (lambda _, phrases: [None] * (len(phrases) + 1), "one answer a phrase"),
    "by the batch": (lambda _, phrases: [Box(0, 0, len(phrases), 9, phrase) for phrase in phrases], "depends on"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_one_that_does_not_is_told_why(kind: str) -> None:
    answer, said = WRONG[kind]
    with pytest.raises(AssertionError, match=said):
        boxes_are_given(Points(answer), eight_samples())


def test_one_that_draws_is_told() -> None:
    model = Points(lambda _, phrases: [])
    model.locate_with = lambda _, phrases: [Box(0, 0, model.calls, 9, phrase) for phrase in phrases]
    with pytest.raises(AssertionError, match="not the same twice"):
        boxes_are_given(model, eight_samples())
