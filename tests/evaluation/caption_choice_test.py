"""One true caption among several: scores, what is skipped, and what is counted how."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.capabilities.verbs import Comparable
from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.visual import Image
from diptych.evaluation.benchmark import Records
from diptych.evaluation.caption_choice import Choice, choice_metrics, decide, picture

PIXELS = Image(pixels_HWC=np.zeros((4, 4, 3), np.uint8), name="black")


class ByLength:
    """Scores a text by its length; a picture named "bad" cannot be read."""

    name = "by length"
    VERBS = ("score",)
    comparable_over = Comparable.BOTH

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        if visuals[0].name == "bad":
            raise BadSample("bad", "truncated image")
        return torch.tensor([[float(len(text)) for text in texts]])


CHOICES = [
    Choice("right", PIXELS, "long text", ("short",), "a"),
    Choice("wrong", PIXELS, "short", ("long text",), "a"),
    Choice("tie", PIXELS, "four", ("five", "nine", "abcd"), "a"),
    Choice("other", PIXELS, "long text", ("short",), "b"),
    Choice("absent", None, "x", ("y",), "b"),
    Choice("broken", Image(encoded=b"", name="bad"), "x", ("y",), "b"),
]
CHANCE = {"a": 0.5, "b": 0.5, "never asked": 0.2}


def test_values_of_every_choice_and_their_means() -> None:
    records = Records(None, {})
    decide(ByLength(), CHOICES, records)
    assert records.done["right"].values == {"a": 1.0, "a_expected": 1.0, "a_tie_rate": 0.0}
    assert records.done["wrong"].values == {"a": 0.0, "a_expected": 0.0, "a_tie_rate": 0.0}
    assert records.done["tie"].values == {"a": 0.0, "a_expected": 0.25, "a_tie_rate": 1.0}
    assert records.done["right"].prompt == ["long text", "short"]
    assert records.done["right"].output == [9.0, 5.0]
    assert records.done["absent"].status == "skipped: no picture"
    assert records.done["broken"].status == "truncated image"
    found = choice_metrics(records, tuple(CHANCE), CHANCE)
    assert "never asked" not in found
    assert (found["a"].value, found["a"].n, found["a"].chance) == (pytest.approx(1 / 3), 3, 0.5)
    assert found["a_expected"].value == pytest.approx(1.25 / 3)
    assert found["a_tie_rate"].value == pytest.approx(1 / 3)
    assert (found["b"].value, found["b"].n) == (1.0, 1)
    assert found["macro"].value == pytest.approx((1 / 3 + 1) / 2)
    assert found["macro_expected"].value == pytest.approx((1.25 / 3 + 1) / 2)


def test_what_is_done_already_is_not_scored_again() -> None:
    class Never(ByLength):
        def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
            raise AssertionError("scored again")

    records = Records(None, {})
    decide(ByLength(), CHOICES[:2], records)
    assert list(records.done) == ["right", "wrong"]
    decide(Never(), CHOICES[:2], records)


def test_no_picture_at_all_says_what_to_do(tmp_path: Path) -> None:
    records = Records(None, {})
    decide(ByLength(), CHOICES[4:5], records)
    with pytest.raises(DataError, match=r"none of the benchmark's pictures were found: .* images=FOLDER"):
        choice_metrics(records, tuple(CHANCE), CHANCE)
    assert picture(tmp_path, "nowhere.jpg") is None
