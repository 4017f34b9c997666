"""Pictures alone as batches: what image tokenizers and autoencoders train on.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diptych.core.processor import Field, Preview, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.data.batches.row_batch import RowBatch
from diptych.data.pixels.images import ImagePreprocessing, fill_pixels, image_of, pixels_of


@dataclass(frozen=True)
class PictureBatch(RowBatch):
    """Pictures.

    Attributes:
        pixels_BCHW: uint8 in channels-last strides; the model normalises them on its device.
        seeds: one 63-bit integer a sample, for what is drawn on the device.
    """

    pixels_BCHW: Tensor
    seeds: tuple[int, ...]


class PictureProcessor:
    """Samples -> `PictureBatch`; captions are not looked at."""

    def __init__(self, image: ImagePreprocessing) -> None:
        self.image = image

    def layout(self) -> Mapping[str, Field]:
        return {"pixels": Field((self.image.size, self.image.size, 3))}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> int:
        """Fills the pixels; the sample's seed.

        Raises:
            BadSample: no picture, or one that cannot be decoded.
        """
        fill_pixels(rows["pixels"], image_of(sample), sample.key, self.image, draw)
        return (draw or Draw(0, 0, sample.key)).integer("noise")

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[int]) -> PictureBatch:
        return PictureBatch(keys, arrays["pixels"].permute(0, 3, 1, 2), tuple(items))

    def preview(self, batch: PictureBatch) -> list[Preview]:
        """The views."""
        pixels_BHWC = batch.pixels_BCHW.permute(0, 2, 3, 1).numpy()
        return [Preview(key, pixels_HWC, "", None) for key, pixels_HWC in zip(batch.keys, pixels_BHWC, strict=True)]

    def pixels(self, visuals: Sequence[Any], threads: int = 2) -> Tensor:
        """Pictures in evaluation geometry: [N, 3, size, size] uint8.

        Raises:
            DataError: a picture is not there or cannot be decoded.
        """
        return pixels_of(visuals, self.image, threads)
