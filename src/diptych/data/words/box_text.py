"""Boxes as text: "{<x0><y0><x1><y1>}" in hundredths of the picture's width and height, as MiniGPT-v2 writes them.

Chen et al. 2023, arXiv 2310.09478, section 2.2. In running text a phrase and its box are "<p>phrase</p> {<..>}". A
corner is rounded to the nearest hundredth, so it moves by at most half of one; a side that would vanish is kept one
hundredth long.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from diptych.core.visual import Box
from diptych.data.pixels.regions import normalised_box

STEPS = 100
"""Of a side."""
_BOX = re.compile(r"\{<(\d{1,3})><(\d{1,3})><(\d{1,3})><(\d{1,3})>\}")
_NAMED = re.compile(r"<p>([^<>{}]+)</p>\s*(\{[<>\d]*\})")


class Hundredths(NamedTuple):
    """Corners of a box in hundredths of the picture's sides; x0 < x1 and y0 < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    def text(self) -> str:
        """ "{<10><20><30><40>}"."""
        return "{" + "".join(f"<{corner}>" for corner in self) + "}"

    def in_pixels(self, width: int, height: int, label: str = "") -> Box:
        """The box of a picture of this size."""
        x, y = width / STEPS, height / STEPS
        return Box(self.x0 * x, self.y0 * y, self.x1 * x, self.y1 * y, label)


def hundredths(box: Box, width: int, height: int, key: str) -> Hundredths:
    """A box of a picture of this size in pixels.

    Raises:
        BadSample: "bad box": out of order, without area or outside the picture.
    """
    x0, y0, x1, y1 = (normalised_box(box, width, height, key) * STEPS).tolist()
    (left, right), (top, bottom) = _side(x0, x1), _side(y0, y1)
    return Hundredths(left, top, right, bottom)


def _side(begin: float, end: float) -> tuple[int, int]:
    first, last = round(begin), round(end)
    if first < last:
        return first, last
    return (first, first + 1) if first < STEPS else (first - 1, first)


def read_boxes(text: str) -> list[Hundredths]:
    """The valid boxes in a text, in order: corners of 0 to 100, in order."""
    found = [Hundredths(*(int(number) for number in match.groups())) for match in _BOX.finditer(text)]
    return [box for box in found if box.x0 < box.x1 <= STEPS and box.y0 < box.y1 <= STEPS]


def named_box(phrase: str, box: Hundredths) -> str:
    """ "<p>red circle</p> {<10><20><30><40>}"."""
    return f"<p>{phrase}</p> {box.text()}"


def read_named(text: str) -> list[tuple[str, Hundredths]]:
    """The phrases of a text that have a valid box, each with it, in order."""
    found = [(match[1].strip(), read_boxes(match[2])) for match in _NAMED.finditer(text)]
    return [(phrase, boxes[0]) for phrase, boxes in found if boxes]


def without_boxes(text: str) -> str:
    """The text that people read: phrases without their marks and boxes."""
    plain = re.sub(r"\s*\{[<>\d]*\}", "", text).replace("<p>", "").replace("</p>", "")
    return " ".join(plain.split())
