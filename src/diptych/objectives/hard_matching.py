"""Hard in-batch negatives for a matching head.

Li et al. 2021, "Align before Fuse" (ALBEF), arXiv 2107.07651, section 3.2: a row is given a row of the other side that
is not its own, drawn with the softmax of their similarities, so that what looks alike is told apart most often.

A anchors, N candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BELOW_ONE = 1 - 2.0**-20
"""Keeps a rounded product of a number below 1 and a sum below that sum."""


def draw_hard(logits_AN: Tensor, allowed_AN: Tensor, uniform_A: Tensor) -> Tensor:
    """One candidate [A] of each anchor, drawn from softmax(logits) over the allowed ones.

    Args:
        logits_AN: similarities, times their scale.
        allowed_AN: bool. Of a row without any the answer is candidate 0, and has no meaning.
        uniform_A: numbers in [0, 1); each decides its row.

    Returns:
        int64; no gradient.
    """
    logits_AN = logits_AN.detach().masked_fill(~allowed_AN, -torch.inf)
    logits_AN = torch.where(allowed_AN.any(1, keepdim=True), logits_AN, 0.0)  # a row of -inf alone has no softmax
    below_AN = logits_AN.softmax(1).cumsum(1)
    wanted_A1 = (uniform_A * _BELOW_ONE)[:, None] * below_AN[:, -1:]
    index_A = (below_AN <= wanted_A1).sum(1)  # the first candidate whose sum is above; one with no share never is
    return torch.where(allowed_AN.any(1), index_A, 0)


def others(labels_NK: Tensor) -> Tensor:
    """How many rows [N] differ from each row in both of its two labels.

    Args:
        labels_NK: int64 [N, 2].
    """
    same = [_occurrences(labels_NK[:, :1]), _occurrences(labels_NK[:, 1:]), _occurrences(labels_NK)]
    return len(labels_NK) - (same[0] + same[1] - same[2])


def _occurrences(labels_NK: Tensor) -> Tensor:
    """How many rows [N] are equal to each."""
    _, group_N, count_G = labels_NK.unique(dim=0, return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    found: Tensor = count_G[group_N]
    return found
