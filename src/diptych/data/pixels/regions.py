"""Which regions of a picture a model looks at: boxes that are known, or proposals (a grid, a detector).

Regions are in normalised coordinates of the whole picture, so that they stay what they are when it is squashed to
another size: x0, y0, x1, y1 in [0, 1].

R regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.visual import Box, Pixels

Boxes = NDArray[np.float32]
"""[R, 4], normalised."""
_ROUNDING = 0.5
"""How far in pixels a box may stand over the picture's edge: annotations are rounded. It is cut off there."""


class Detector(Protocol):
    """Proposes regions of a picture."""

    def boxes(self, pixels_HWC: Pixels, most: int) -> Boxes:
        """At most so many regions, the best first."""
        ...


@dataclass(frozen=True)
class RegionConfig:
    """Where regions come from.

    Attributes:
        source: "boxes" takes the boxes that are known of a picture, and proposals where there are none; "proposed"
            takes proposals always, so that training and evaluation see the same kind.
        grid: proposals: n for the n x n equal cells of the picture; (1, 2, 3) is the whole picture and 13 parts.
        most: the most regions of a picture; of known boxes the first are taken, of a detector's the best.
        detector: a `transformers` folder of an object detector, whose regions follow those of the grid; "" for none.
        mirror: probability that a picture in training is turned left to right, with its boxes. 0 by default: it makes
            captions that say left and right untrue.
    """

    source: Literal["boxes", "proposed"] = "proposed"
    grid: tuple[int, ...] = (1, 2, 3)
    most: int = 36
    detector: str = ""
    mirror: float = 0.0

    def __post_init__(self) -> None:
        cells = sum(n * n for n in self.grid)
        if any(n < 1 for n in self.grid) or self.most < max(cells, 1):
            raise ConfigError(
                f"regions on the grids {self.grid} are {cells}, of which most={self.most} are allowed: give positive "
                f"numbers of cells, and a most that holds them all"
            )
        if self.source == "proposed" and not self.proposes:
            raise ConfigError("regions are to be proposed, but nothing does: give a grid (1, 2, 3) or name a detector")
        if not 0 <= self.mirror <= 1:
            raise ConfigError(f"mirror {self.mirror} must be a probability in [0, 1]")

    @property
    def proposes(self) -> bool:
        """Whether there are proposals for a picture without boxes."""
        return bool(self.grid or self.detector)

    @property
    def room(self) -> int:
        """How many regions a picture may have: the rows to provide."""
        if self.source == "boxes" or self.detector:
            return self.most
        return sum(n * n for n in self.grid)


def regions_of(
    pixels_HWC: Pixels, known: Sequence[Box], key: str, config: RegionConfig, detector: Detector | None = None
) -> Boxes:
    """The regions of a picture [R, 4], at least one and at most `config.room`.

    Args:
        pixels_HWC: the whole picture.
        known: boxes of it in pixels.
        detector: the one that the configuration names.

    Raises:
        BadSample: a known box is out of order, without area or outside the picture; or there is none, and nothing
            proposes any.
    """
    if config.source == "boxes" and known:
        height, width = pixels_HWC.shape[:2]
        return np.stack([normalised_box(box, width, height, key) for box in known[: config.most]])
    if not config.proposes:
        raise BadSample(key, "no boxes", "no box of it is known, and nothing proposes one: give a grid or a detector")
    of_grid = grid_boxes(config.grid)
    if not config.detector or len(of_grid) >= config.most:
        return of_grid
    assert detector is not None, "the configuration names a detector, and none was read"
    found = np.concatenate([of_grid, detector.boxes(pixels_HWC, config.most - len(of_grid))])
    if not len(found):
        raise BadSample(key, "no boxes", "the detector proposes none: give a grid beside it, such as (1,)")
    return found


@lru_cache(maxsize=32)
def grid_boxes(grid: tuple[int, ...]) -> Boxes:
    """The equal cells of each grid in reading order, one grid after another."""
    rows = [
        (column / n, row / n, (column + 1) / n, (row + 1) / n)
        for n in grid
        for row in range(n)
        for column in range(n)
    ]  # fmt: skip
    return np.array(rows, np.float32).reshape(-1, 4)


def mirrored(boxes_R4: Boxes) -> Boxes:
    """The same regions of the picture turned left to right."""
    x0, y0, x1, y1 = boxes_R4.T
    return np.stack([1 - x1, y0, 1 - x0, y1], axis=1)


def normalised_box(box: Box, width: int, height: int, key: str) -> Boxes:
    """x0, y0, x1, y1 [4] of a box in pixels.

    Raises:
        BadSample: it is out of order, without area or outside the picture.
    """
    corners = f"({box.x0:g}, {box.y0:g}) to ({box.x1:g}, {box.y1:g})"
    if not (box.x0 < box.x1 and box.y0 < box.y1):
        raise BadSample(key, "bad box", f"{corners} has no area, or its corners are not in order")
    outside = min(box.x0, box.y0) < -_ROUNDING or box.x1 > width + _ROUNDING or box.y1 > height + _ROUNDING
    if outside or box.x0 >= width or box.y0 >= height:
        raise BadSample(key, "bad box", f"{corners} is outside the picture of {width} x {height} pixels")
    found = np.array([box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height], np.float32)
    return found.clip(0, 1)
