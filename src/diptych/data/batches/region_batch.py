"""A batch of pictures as regions, each with a caption.

B batch, T tokens, R regions, C channels, H height, W width, N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor


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
class RegionTextBatch:
    """Pairs of one picture and one caption.

    Attributes:
        keys: of the samples.
        pictures: with as many rows of regions as the picture that has most.
        tokens_BT: int64, padded to the batch's longest row.
        lengths_B: int64, control tokens counted.
        matches_B: bool, whether the caption is one of the picture's own.
        seeds: one 63-bit integer a sample, from which masked words are drawn.
    """

    keys: tuple[str, ...]
    pictures: Pictures
    tokens_BT: Tensor
    lengths_B: Tensor
    matches_B: Tensor
    seeds: tuple[int, ...]

    @property
    def num_samples(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Self:
        """Copies to a device; without waiting where the pixels are in pinned memory."""

        def moved(rows: Tensor) -> Tensor:
            return rows.to(device, non_blocking=True)

        return replace(
            self,
            pictures=self.pictures.to(device),
            tokens_BT=moved(self.tokens_BT),
            lengths_B=moved(self.lengths_B),
            matches_B=moved(self.matches_B),
        )

    def split(self, n: int) -> Sequence[Self]:
        """Micro-batches of at most `n` pairs, in order, views of the same memory; each padded as the whole is."""
        return [self._part(begin, begin + n) for begin in range(0, self.num_samples, n)]

    def _part(self, begin: int, end: int) -> Self:
        return replace(
            self,
            keys=self.keys[begin:end],
            pictures=Pictures(*(rows[begin:end] for rows in self.pictures)),
            tokens_BT=self.tokens_BT[begin:end],
            lengths_B=self.lengths_B[begin:end],
            matches_B=self.matches_B[begin:end],
            seeds=self.seeds[begin:end],
        )
