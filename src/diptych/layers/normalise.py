"""Pixels as a tower wants them: uint8 batches are scaled and normalised on the device they are on.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """(pixels / 255 - mean) / std for uint8; floating point pixels are taken as prepared already."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # value * factor + shift, in one pass; not persistent, because the model's configuration holds them.
        factor = torch.tensor([1 / (255 * s) for s in std])
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
        self.register_buffer("factor_C11", factor[:, None, None], persistent=False)
        self.register_buffer("shift_C11", shift[:, None, None], persistent=False)
        self.factor_C11: Tensor
        self.shift_C11: Tensor

    def forward(self, pixels_BCHW: Tensor, out_BCHW: Tensor | None = None) -> Tensor:
        """Normalised pixels, contiguous.

        Args:
            out_BCHW: floating point memory to use again: a fresh block of a batch's size costs the CPU more time than
                the arithmetic. Of no use where a graph keeps the result.
        """
        if pixels_BCHW.dtype != torch.uint8:
            return pixels_BCHW
        if out_BCHW is None:
            out_BCHW = torch.empty(pixels_BCHW.shape, dtype=self.factor_C11.dtype, device=pixels_BCHW.device)
        return out_BCHW.copy_(pixels_BCHW).mul_(self.factor_C11).add_(self.shift_C11)
