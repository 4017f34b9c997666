"""Dropout whose mask is a function of the sample, not of the batch that it comes in.

torch's dropout draws from one stream for all rows of a tensor, so a mask depends on how a batch is cut into
micro-batches and spread over processes. Here every element's draw is a hash of (seed of its sample, purpose, place), so
a run on another number of processes, or in other micro-batches, takes the same steps.

B batch, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.core.seeding import hash_to_int

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, as a signed number
_MIX = ((30, -4658895280553007687), (27, -7723592293110705685), (31, 1))
"""Shifts and multipliers of splitmix64 (Steele, Lea and Flood 2014); products of int64 wrap, as they should."""


def keyed_dropout(x_BD: Tensor, probability: float, seeds_B: Tensor, purpose: str) -> Tensor:
    """Sets elements to zero with a probability, and scales the others so that the mean stays.

    Args:
        x_BD: [B, D].
        probability: in [0, 1).
        seeds_B: int64, one a sample, on the device of x_BD.
        purpose: tells the places of a network apart.
    """
    if probability == 0:
        return x_BD
    bits_BD = _hash(seeds_B[:, None] ^ hash_to_int(purpose), x_BD.shape[1])
    kept_BD = (bits_BD & ((1 << 53) - 1)) >= int(probability * (1 << 53))
    return x_BD * (kept_BD.to(x_BD.dtype) / (1 - probability))


def _hash(keys_B1: Tensor, width: int) -> Tensor:
    """int64 [B, width] of independent bits."""
    z_BD = keys_B1 + torch.arange(1, width + 1, device=keys_B1.device) * _GOLDEN
    for shift, factor in _MIX:
        z_BD = (z_BD ^ (z_BD >> shift & ((1 << (64 - shift)) - 1))) * factor  # a shift of int64 keeps its sign
    return z_BD
