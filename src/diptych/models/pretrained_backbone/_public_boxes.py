"""How public models are asked where something is, and how they write boxes.

PaliGemma (Beyer et al. 2024, arXiv 2407.07726): "detect cat", "<loc0246><loc0229><loc0872><loc0904> cat"; y and x of a
corner and of the other, in 1024ths of the picture's sides. Qwen2-VL (Wang et al. 2024, arXiv 2409.12191): the phrase
between marks of its own, "<|box_start|>(176,106),(232,160)<|box_end|>"; x and y, in thousandths. Qwen2.5-VL (Bai et al.
2025, arXiv 2502.13923): JSON, {"bbox_2d": [341, 258, 397, 360], "label": "cat"}; x and y in pixels of the picture as
the model sees it, resized.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diptych.core.visual import Box

_MARK = re.compile(r"<\|\w+\|>")


class Seen(NamedTuple):
    """Sizes of a picture as a model sees it, in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class BoxFormat:
    """Of one model.

    Attributes:
        question: with "{phrase}" where it belongs.
        written: a box in what the model says, with four numbers.
        steps: how many there are of a side; 0 where numbers are pixels of the picture as it is seen.
        rows_first: whether y stands before x.
    """

    question: str
    written: re.Pattern[str]
    steps: int
    rows_first: bool = False

    def asked(self, phrase: str) -> str:
        """What is said to the model."""
        return self.question.format(phrase=phrase.strip())

    @property
    def marks(self) -> frozenset[str]:
        """Tokens of the model's own in the question."""
        return frozenset(_MARK.findall(self.question))

    def first_box(self, said: str, seen: Seen, given: Seen, label: str) -> Box | None:
        """The first box in a text that has an area inside the picture, cut to it; None where there is none.

        Args:
            given: sizes of the picture as it was given, in whose pixels the box is.
        """
        boxes = (self._box([float(one) for one in found.groups()], seen, given, label)
                 for found in self.written.finditer(said))  # fmt: skip
        return next((box for box in boxes if box.x0 < box.x1 and box.y0 < box.y1), None)

    def _box(self, numbers: Sequence[float], seen: Seen, given: Seen, label: str) -> Box:
        first, second, third, last = numbers
        corners = (second, first, last, third) if self.rows_first else (first, second, third, last)
        steps = (self.steps, self.steps) if self.steps else seen
        x0, y0, x1, y1 = (min(one / steps[place % 2], 1.0) * given[place % 2] for place, one in enumerate(corners))
        return Box(x0, y0, x1, y1, label)


_PLACE = r"\(\s*(\d+)\s*,\s*(\d+)\s*\)"
_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"

FORMATS = {
    "paligemma": BoxFormat("detect {phrase}", re.compile(r"<loc(\d{4})>" * 4), 1024, rows_first=True),
    "qwen2_vl": BoxFormat(
        "Find <|object_ref_start|>{phrase}<|object_ref_end|>", re.compile(rf"{_PLACE}\s*,\s*{_PLACE}"), 1000
    ),
    "qwen2_5_vl": BoxFormat(
        "Locate {phrase}, output its bbox coordinates using JSON format.",
        re.compile(rf'"bbox_2d"\s*:\s*\[{",".join([_NUMBER] * 4)}\]'),
        0,
    ),
}
"""By the `model_type` of a configuration."""
