"""A batch of pictures as regions, each with a caption.

B batch, T tokens, R regions, C channels, H height, W width, N pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.data.batches.row_batch import RowBatch


class Pictures(NamedTuple):
    """Pictures with their regions.

    Attributes:
        pixels_NCHW: uint8 in channels-last strides.
        boxes_NR4: normalised x0, y0, x1, y1; zeros beyond a picture's own.
        counts_N: int64, how many regions each has, at least one.
    """

    pixels_NCHW: Tensor
    boxes_NR4: Tensor
    counts_N: Tensor

    def to(self, device: torch.device) -> Pictures:
        """Copies to a device; without waiting where the pixels are in pinned memory."""
        return Pictures(*(rows.to(device, non_blocking=True) for rows in self))


@dataclass(frozen=True)
class RegionTextBatch(RowBatch):
    """Pairs of one picture and one caption.

    Attributes:
        pictures: with as many rows of regions as the picture that has most.
        tokens_BT: int64, padded to the batch's longest row.
        lengths_B: int64, control tokens counted.
        matches_B: bool, whether the caption is one of the picture's own.
        seeds: one 63-bit integer a sample, from which masked words are drawn.
    """

    pictures: Pictures
    tokens_BT: Tensor
    lengths_B: Tensor
    matches_B: Tensor
    seeds: tuple[int, ...]
