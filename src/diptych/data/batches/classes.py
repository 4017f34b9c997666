"""Pictures with a class as batches: what supervised models train on.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample, Field, Preview, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.data.batches.row_batch import RowBatch
from diptych.data.pixels.images import ImagePreprocessing, fill_pixels, image_of, pixels_of


@dataclass(frozen=True)
class ClassConfig:
    """Which classes there are, and how their pictures look.

    Attributes:
        names: class names; a class's index is its place here. Samples carry theirs in `meta["class"]`.
        image: preprocessing of the pictures.
    """

    names: tuple[str, ...]
    image: ImagePreprocessing = field(default_factory=ImagePreprocessing)

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError("class names must be given, each once")


@dataclass(frozen=True)
class ClassBatch(RowBatch):
    """Pictures with one class each.

    Attributes:
        pixels_BCHW: uint8 in channels-last strides; the model normalises them on its device.
        classes_B: int64, indices into the config's names.
        seeds: one 63-bit integer a sample, for noise that is drawn on the device.
    """

    pixels_BCHW: Tensor
    classes_B: Tensor
    seeds: tuple[int, ...]


class _Label(NamedTuple):
    class_index: int
    seed: int


class ClassProcessor:
    """Samples -> `ClassBatch`."""

    def __init__(self, config: ClassConfig) -> None:
        self.config = config
        self._index = {name: index for index, name in enumerate(config.names)}

    def layout(self) -> Mapping[str, Field]:
        size = self.config.image.size
        return {"pixels": Field((size, size, 3))}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> _Label:
        """Fills the pixels and looks up the class.

        Raises:
            BadSample: no picture, one that cannot be decoded, "no class" or "unknown class".
        """
        name = sample.meta.get("class")
        if name is None:
            raise BadSample(sample.key, "no class")
        if name not in self._index:
            raise BadSample(sample.key, "unknown class", f"{name!r} is none of the {len(self._index)} class names")
        fill_pixels(rows["pixels"], image_of(sample), sample.key, self.config.image, draw)
        return _Label(self._index[name], (draw or Draw(0, 0, sample.key)).integer("noise"))

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[_Label]) -> ClassBatch:
        classes_B = torch.tensor([item.class_index for item in items], dtype=torch.int64)
        pixels_BCHW = arrays["pixels"].permute(0, 3, 1, 2)
        return ClassBatch(keys, pixels_BCHW, classes_B, tuple(item.seed for item in items))

    def preview(self, batch: ClassBatch) -> list[Preview]:
        """The views, and the names of their classes."""
        pixels_BHWC = batch.pixels_BCHW.permute(0, 2, 3, 1).numpy()
        return [
            Preview(key, pixels_HWC, self.config.names[index], None)
            for key, pixels_HWC, index in zip(batch.keys, pixels_BHWC, batch.classes_B.tolist(), strict=True)
        ]

    def pixels(self, visuals: Sequence[Any], threads: int = 2) -> Tensor:
        """Pictures in evaluation geometry: [N, 3, size, size] uint8.

        Raises:
            DataError: a picture is not there or cannot be decoded.
        """
        return pixels_of(visuals, self.config.image, threads)
