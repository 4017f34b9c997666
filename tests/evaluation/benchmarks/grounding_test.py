"""Grounding: phrases whose boxes are known, asked of models whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import Held

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError
from diptych.core.records.results import read_samples
from diptych.core.sample import Sample
from diptych.core.visual import Box, Image
from diptych.evaluation.metrics.overlap import overlap
from diptych.evaluation.runner import evaluate

Answer = Callable[[int, str], Box | None]


def sample(index: int, *boxes: Box, side: int = 10) -> Sample:
    image = Image(pixels_HWC=np.full((side, 2 * side, 3), index, np.uint8), name=f"p{index}")
    return Sample(f"k{index}", (image,), boxes=boxes)


SOURCE = Held(
    [
        sample(0, Box(0, 0, 10, 10, "cat"), Box(10, 0, 20, 10, "dog")),
        sample(1, Box(0, 0, 20, 20, "cat"), side=20),
        sample(2, Box(0, 0, 10, 10, "hen"), Box(3, 3, 6, 6, "egg"), Box(1, 1, 2, 2, "egg")),
    ]
)
TRUE = {(0, "cat"): Box(0, 0, 10, 10), (0, "dog"): Box(10, 0, 20, 10), (1, "cat"): Box(0, 0, 20, 20)}
TRUE |= {(2, "hen"): Box(0, 0, 10, 10)}


class Pointer(Predictor):
    """Gives the box that it is told to give for picture i and a phrase."""

    VERBS = ("locate",)
    name = "pointer"

    def __init__(self, answer: Answer) -> None:
        self.answer_with, self.module = answer, torch.nn.Linear(1, 1)

    def locate(self, visuals: Sequence[Any], phrases: Sequence[str]) -> list[Box | None]:
        indices = [int(visual.pixels_HWC[0, 0, 0]) for visual in visuals]
        return [self.answer_with(index, phrase) for index, phrase in zip(indices, phrases, strict=True)]

    def describe(self) -> dict[str, Any]:
        return {}

    def save_files(self, folder: Path) -> None:
        """Nothing."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Pointer:
        raise NotImplementedError


def measured(answer: Answer, tmp_path: Path) -> dict[str, float]:
    (result,) = evaluate(Pointer(answer), ["grounding"], SOURCE, folder=tmp_path)
    return {name: metric.value for name, metric in result.metrics.items()}


def test_overlaps_by_hand() -> None:
    assert overlap(Box(0, 0, 2, 2), Box(0, 0, 2, 2)) == 1
    assert overlap(Box(0, 0, 2, 2), Box(2, 0, 4, 2)) == 0
    assert overlap(Box(0, 0, 2, 2), Box(1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap(Box(0, 0, 0, 0), Box(1, 1, 0, 0)) == 0


def test_true_boxes_are_all_right_and_another_picture_is_worth_nothing(tmp_path: Path) -> None:
    found = measured(lambda index, phrase: TRUE.get((index, phrase)), tmp_path)
    assert found["accuracy"] == found["iou"] == 1 and found["unlocated"] == found["accuracy_swapped"] == 0
    records = read_samples(tmp_path / "grounding")
    asked = {(record.key, record.prompt) for record in records}
    assert asked == {("k0#0", "cat"), ("k0#1", "dog"), ("k1#0", "cat"), ("k2#0", "hen")}  # two eggs: neither is meant


def test_half_an_overlap_is_right_and_no_box_is_wrong(tmp_path: Path) -> None:
    answers = {(0, "cat"): Box(0, 0, 10, 5), (0, "dog"): Box(10, 0, 20, 4.9), (1, "cat"): Box(0, 0, 20, 20)}
    found = measured(lambda index, phrase: answers.get((index, phrase)), tmp_path)
    assert (found["accuracy"], found["unlocated"]) == (0.5, 0.25)
    assert found["iou"] == pytest.approx((0.5 + 0.49 + 1 + 0) / 4)


def test_blind_boxes_come_from_the_other_pictures_in_shares_of_the_sides(tmp_path: Path) -> None:
    """For pictures 1 and 2 the others' boxes are left, right, left: a mean whose overlap with the left half is 1/2."""
    left, right = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)
    mean = Box(1 / 6, 0, 4 / 6, 1)
    found = measured(lambda index, phrase: None, tmp_path)
    right_of_mean = [overlap(left, one) >= 0.5 for one in (left, mean, mean)] + [overlap(left, right) >= 0.5]
    assert found["accuracy_mean_box"] == sum(right_of_mean) / 4 == 0.75
    assert overlap(left, mean) == pytest.approx(0.5) and found["accuracy_centre_box"] == 0
    assert found["unlocated"] == 1 and found["accuracy"] == 0


def test_a_blind_model_is_as_good_on_another_picture(tmp_path: Path) -> None:
    def blind(index: int, phrase: str) -> Box:
        side = 20 if index == 1 else 10
        return Box(0, 0, side, side)  # the left half, whatever is shown

    found = measured(blind, tmp_path)
    assert found["accuracy"] == found["accuracy_swapped"] == 0.75


def test_bad_boxes_are_recorded_with_the_reason(tmp_path: Path) -> None:
    data = Held([*(SOURCE[index] for index in range(3)), sample(3, Box(15, 0, 25, 10, "cow")), sample(4)])
    (result,) = evaluate(Pointer(lambda index, phrase: None), ["grounding"], data, folder=tmp_path)
    assert (result.counts.evaluated, result.counts.failed, result.counts.skipped) == (3, 1, 1)
    reasons = {record.key: record.status for record in read_samples(tmp_path / "grounding") if record.status != "ok"}
    assert reasons == {"k3": "bad box", "k4": "skipped: no phrase with a box"}
    with pytest.raises(DataError, match="no two pictures with labelled boxes"):
        evaluate(Pointer(lambda index, phrase: None), ["grounding"], Held([sample(4), SOURCE[0]]))
