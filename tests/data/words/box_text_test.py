"""Boxes as text and back: half a hundredth is lost, and what is no box is none."""

from __future__ import annotations

import pytest

from diptych.core.processor import BadSample
from diptych.core.visual import Box
from diptych.data.words.box_text import Hundredths, hundredths, named_box, read_boxes, read_named, without_boxes


def test_a_box_comes_back_within_half_a_hundredth() -> None:
    for box in (Box(0, 0, 320, 240), Box(13, 7, 101, 239), Box(200.4, 100.2, 260.9, 180.1)):
        found = hundredths(box, 320, 240, "k")
        assert read_boxes(f"it is at {found.text()}.") == [found]
        again = found.in_pixels(320, 240)
        for was, now, side in zip(
            (box.x0, box.y0, box.x1, box.y1), (again.x0, again.y0, again.x1, again.y1), (320, 240) * 2, strict=True
        ):
            assert abs(was - now) <= side / 200 + 1e-4


def test_a_side_that_would_vanish_is_kept() -> None:
    assert hundredths(Box(500, 999, 501, 1000), 1000, 1000, "k") == Hundredths(50, 99, 51, 100) != (50, 100, 50, 100)
    assert hundredths(Box(998, 0, 1000, 2), 1000, 1000, "k") == Hundredths(99, 0, 100, 1)


@pytest.mark.parametrize(
    "text",
    ["", "{<1><2><3>}", "{<30><2><20><40>}", "{<1><2><3><101>}", "{<1><2><1><4>}", "{<-1><2><3><4>}", "<1><2><3><4>"],
)
def test_what_is_no_box_is_none(text: str) -> None:
    assert read_boxes(text) == [] == read_named(f"<p>cat</p> {text}")


def test_phrases_with_their_boxes() -> None:
    cat, dog = Hundredths(1, 2, 30, 40), Hundredths(50, 0, 100, 99)
    text = f"{named_box('a cat', cat)} and <p>a cow</p> {{<9><9><1><1>}} and {named_box('a dog', dog)}"
    assert read_named(text) == [("a cat", cat), ("a dog", dog)]
    assert without_boxes(text) == "a cat and a cow and a dog"


@pytest.mark.parametrize("box", [Box(5, 0, 5, 9), Box(9, 0, 5, 9), Box(0, 0, 12, 9), Box(-3, 0, 5, 9)])
def test_a_wrong_box_is_refused_with_key_and_numbers(box: Box) -> None:
    with pytest.raises(BadSample, match="k7: bad box") as refusal:
        hundredths(box, 10, 10, "k7")
    assert f"{box.x1:g}" in str(refusal.value)
