from itertools import permutations

import numpy as np
import pytest

from diptych.evaluation.metrics.gain import ndcg, ndcg_by_chance


def in_order(relevance: list[float]) -> float:
    """The published sum over the first k, k being how many are relevant, of candidates as they stand."""
    k = sum(value > 0 for value in relevance)
    return sum(value / np.log2(rank + 1) for rank, value in enumerate(relevance[:k], 1))


def test_by_the_published_sum() -> None:
    relevance = [0.0, 0.4, 1.0, 0.0, 0.2]
    best = in_order(sorted(relevance, reverse=True))
    for order in permutations(range(5)):
        scores = np.empty(5)
        scores[list(order)] = np.arange(5, 0, -1)
        assert ndcg(scores, relevance) == pytest.approx(in_order([relevance[i] for i in order]) / best)


def test_ties_are_the_mean_over_their_orders() -> None:
    relevance = [0.0, 0.4, 1.0, 0.2]
    best = in_order(sorted(relevance, reverse=True))
    everything = [in_order([relevance[i] for i in order]) / best for order in permutations(range(4))]
    assert ndcg_by_chance(relevance) == pytest.approx(np.mean(everything))
    first = [in_order([1.0, *(relevance[i] for i in order)]) / best for order in permutations((0, 1, 3))]
    assert ndcg(np.array([1.0, 1.0, 2.0, 1.0]), relevance) == pytest.approx(np.mean(first))


def test_nothing_relevant() -> None:
    assert ndcg(np.array([1.0, 2.0]), [0.0, 0.0]) == 0.0
