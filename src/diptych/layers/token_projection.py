"""A linear map of its own for each token of a fixed set.

B batch, K tokens, D input width, E output width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TokenProjection(nn.Module):
    """Token k goes through matrix k; no bias."""

    def __init__(self, tokens: int, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(tokens, width, out) * width**-0.5)

    def forward(self, x_BKD: Tensor) -> Tensor:
        """[B, K, E]."""
        return torch.einsum("bkd,kde->bke", x_BKD, self.weight)
