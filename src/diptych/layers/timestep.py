"""The time of a diffusion step as a vector: sines and cosines of many wavelengths, then an MLP.

Ho et al. 2020, arXiv 2006.11239; as in diffusers' UNet2DConditionModel. N rows, D width of the sinusoid, E of the
vector.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LONGEST = 10_000.0


def sinusoid(steps_N: Tensor, width: int) -> Tensor:
    """[N, width], float32: cosines, then sines, of wavelengths from 2 pi to 2 pi * 10,000."""
    half = width // 2
    places = torch.arange(half, dtype=torch.float32, device=steps_N.device)
    angles_NK = steps_N.float()[:, None] * torch.exp(-math.log(_LONGEST) * places / half)
    return torch.cat([angles_NK.cos(), angles_NK.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Steps [N] -> vectors [N, E]."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width = width
        self.up = nn.Linear(width, out)
        self.down = nn.Linear(out, out)

    def forward(self, steps_N: Tensor) -> Tensor:
        found: Tensor = self.down(F.silu(self.up(sinusoid(steps_N, self.width).to(self.up.weight.dtype))))
        return found
