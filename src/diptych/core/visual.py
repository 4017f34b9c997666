"""Pictures and clips as they travel: undecoded until a processor needs their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError

Pixels = NDArray[np.uint8]
"""Height x width x 3, RGB, uint8."""


@dataclass(frozen=True, slots=True)
class Box:
    """A region: pixel corners (x0, y0) inclusive to (x1, y1) exclusive, and what is there."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One picture: encoded bytes (JPEG, PNG, WebP ...) or pixels, exactly one of the two.

    Attributes:
        encoded: the file's bytes; a memoryview where the source maps its file.
        pixels_HWC: decoded RGB uint8.
        name: where it came from, for messages and galleries.
        boxes: regions that are known of it, for models that look at regions.
    """

    encoded: bytes | memoryview | None = None
    pixels_HWC: Pixels | None = None
    name: str = ""
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        if (self.encoded is None) == (self.pixels_HWC is None):
            raise ValueError("an Image holds either encoded bytes or pixels")


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A video clip: frames with their times in seconds."""

    frames: tuple[Image, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.times):
            raise ValueError(f"{len(self.frames)} frames but {len(self.times)} times")


Visual = Image | Clip


def as_image(value: Any) -> Image:
    """A picture from what people have at hand.

    Args:
        value: an Image, a path, encoded bytes, a PIL image, or a uint8 array [H, W, 3].

    Raises:
        DataError: the file is not there, or the value is none of these.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, str | Path):
        path = Path(value)
        if not path.is_file():
            raise DataError(f"no picture at {path}")
        return Image(encoded=path.read_bytes(), name=str(path))
    if isinstance(value, bytes | memoryview):
        return Image(encoded=value)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3:
        return Image(pixels_HWC=value)
    if hasattr(value, "convert"):  # a PIL image, without importing PIL here
        return Image(pixels_HWC=np.asarray(value.convert("RGB")))
    raise DataError(
        f"cannot read a picture from {type(value).__name__}: give a path, bytes, a PIL image or a uint8 [H, W, 3] array"
    )


def as_images(values: Sequence[Any]) -> list[Image]:
    """`as_image` of each."""
    return [as_image(value) for value in values]
