"""An exact recogniser of scenes in pictures, for judging generated ones; it may answer "nothing here".

It knows the renderer: objects are connected regions of one of the palette's colours, and a shape is the mask that fits
a region best. What fits no mask well enough is not an object.

H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diptych.core.visual import Pixels
from diptych.data.scenes.render import coverage
from diptych.data.scenes.world import COLOURS, GRID, SHAPES

_NAMES = tuple(COLOURS)
_PALETTE = np.array([COLOURS[name] for name in _NAMES], np.float32)
_NEAR = 60.0  # largest distance in RGB to a palette colour
_FIT = 0.72  # smallest overlap (intersection over union) of a region with its best mask
_EDGES = (0.25, 0.5, 0.75)  # how much of a pixel must be covered to look coloured: it depends on what is behind it
_SMALLEST = 3  # radius in pixels


@dataclass(frozen=True)
class Recognised:
    """One object as it was recognised."""

    colour: str
    shape: str
    size: str
    row: int
    column: int

    @property
    def name(self) -> str:
        """ "red circle"."""
        return f"{self.colour} {self.shape}"


def recognise(pixels_HWC: Pixels) -> list[Recognised]:
    """The objects of a picture, in reading order; an empty list where there is nothing."""
    found = []
    for colour, mask_HW in _regions(pixels_HWC):
        one = _shape_of(colour, mask_HW, pixels_HWC.shape[0])
        if one is not None:
            found.append(one)
    return sorted(found, key=lambda one: (one.row, one.column))


def _regions(pixels_HWC: Pixels) -> list[tuple[str, NDArray[np.bool_]]]:
    """Connected regions near each colour of the palette."""
    distance = np.linalg.norm(pixels_HWC[:, :, None].astype(np.float32) - _PALETTE, axis=-1)
    nearest = np.where(distance.min(-1) <= _NEAR, distance.argmin(-1), -1)
    regions = []
    for index, name in enumerate(_NAMES):
        labels, count = ndimage.label(nearest == index, structure=np.ones((3, 3)))
        regions += [(name, labels == label) for label in range(1, count + 1)]
    return regions


def _shape_of(colour: str, mask_HW: NDArray[np.bool_], side: int) -> Recognised | None:
    """The shape whose mask overlaps a region best, when it does so well enough."""
    ys, xs = np.nonzero(mask_HW)
    extent = max(int(np.ptp(ys)), int(np.ptp(xs))) + 1
    if extent < 2 * _SMALLEST - 1:
        return None
    best, best_fit, radius_of_best = "", 0.0, 0
    for radius, shape, edge in product(range(max(_SMALLEST, extent // 2 - 2), extent // 2 + 3), SHAPES, _EDGES):
        fit = _best_overlap(mask_HW, _template(shape, radius, edge), ys, xs)
        if fit > best_fit:
            best, best_fit, radius_of_best = shape, fit, radius
    if best_fit < _FIT:
        return None
    size = "large" if radius_of_best > 0.1125 * side else "small"
    y, x = (int(ys.min()) + int(ys.max())) / 2, (int(xs.min()) + int(xs.max())) / 2
    return Recognised(colour, best, size, min(int(y * GRID / side), GRID - 1), min(int(x * GRID / side), GRID - 1))


@lru_cache(maxsize=1024)
def _template(shape: str, radius: int, edge: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pixels of a shape."""
    rows, columns = np.nonzero(coverage(shape, radius)[:, :, 0] > edge)
    return rows, columns


def _best_overlap(
    mask_HW: NDArray[np.bool_], template: tuple[NDArray[np.int64], NDArray[np.int64]], ys: NDArray[np.int64],
    xs: NDArray[np.int64],
) -> float:  # fmt: skip
    """Largest intersection over union of a region with a template laid on it, over shifts of one pixel."""
    rows, columns = template
    height, width = mask_HW.shape
    best = 0.0
    top = (int(ys.min()) + int(ys.max()) - int(rows.min()) - int(rows.max())) // 2
    left = (int(xs.min()) + int(xs.max()) - int(columns.min()) - int(columns.max())) // 2
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, x = rows + top + dy, columns + left + dx
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            both = int(mask_HW[y[inside], x[inside]].sum())
            best = max(best, both / (len(rows) + len(ys) - both))
    return best
