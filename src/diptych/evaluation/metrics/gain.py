"""Graded relevance: how much of what is relevant stands at the top.

M candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def ndcg(scores_M: NDArray[np.float64], relevance_M: Sequence[float]) -> float:
    """VisDial's normalised discounted cumulative gain: over the first k, of which k are relevant at all.

    Das et al. 2017, arXiv 1611.08669, and the VisDial challenge: sum of relevance / log2(rank + 1), over that of the
    best order. Tied candidates share the gain of their places, so a model that ranks nothing gets chance.

    Returns:
        0 where nothing is relevant.
    """
    relevance = np.asarray(relevance_M, np.float64)
    discount_M = _discounts(relevance)
    ideal = float(np.sort(relevance)[::-1] @ discount_M)
    order_M = np.argsort(-scores_M, kind="stable")
    _, tie_M = np.unique(-scores_M[order_M], return_inverse=True)
    of_tie = np.bincount(tie_M, weights=relevance[order_M]) / np.bincount(tie_M)
    return float(of_tie[tie_M] @ discount_M) / ideal if ideal else 0.0


def ndcg_by_chance(relevance_M: Sequence[float]) -> float:
    """What a random order gets on average."""
    return ndcg(np.zeros(len(relevance_M)), relevance_M)


def _discounts(relevance_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / log2(rank + 1) for the first k places, and 0 behind them."""
    rank_M = np.arange(1, len(relevance_M) + 1)
    return np.where(rank_M <= int((relevance_M > 0).sum()), 1 / np.log2(rank_M + 1), 0.0)
