"""Rotary positions: queries and keys are turned by their place, so that their product depends on the distance.

Su et al. 2021, "RoFormer", arXiv 2104.09864, equation 34, in the layout of Llama: number i of a head turns with number
i + K / 2. The public weights of Llama and Chameleon are in it.

B batch, H heads, T tokens, K head width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Turn(NamedTuple):
    """Cosines and sines [B or 1, 1, T, K] of each place; the first half of the sines with the other sign."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x_BHTK: Tensor) -> Tensor:
        """x turned."""
        return torch.addcmul(x_BHTK * self.cos, x_BHTK.roll(x_BHTK.shape[-1] // 2, -1), self.sin)

    def at(self, start: int, end: int) -> Turn:
        """That of some of the places."""
        return Turn(self.cos.narrow(2, start, end - start), self.sin.narrow(2, start, end - start))


def turn_of(places_BT: Tensor, head_width: int, theta: float, dtype: torch.dtype) -> Turn:
    """The turn of each place.

    Args:
        places_BT: int64; one row serves a whole batch.
        theta: the longest wavelength over 2 pi.
        dtype: of what is turned; angles are computed in float32.
    """
    even = torch.arange(0, head_width, 2, device=places_BT.device, dtype=torch.float32)
    angles_BTK = places_BT[..., None].float() * theta ** (-even / head_width)
    cos_B1TK, sin_B1TK = angles_BTK.cos()[:, None], angles_BTK.sin()[:, None]
    return Turn(torch.cat([cos_B1TK] * 2, dim=-1).to(dtype), torch.cat([-sin_B1TK, sin_B1TK], dim=-1).to(dtype))
