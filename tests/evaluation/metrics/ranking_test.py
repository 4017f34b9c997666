"""Ranks and recalls against enumeration of every order of the tied, and against the field's way of counting."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.evaluation.metrics.ranking import chance_at, ranking

KS = (1, 2, 3, 5, 10)


def brute(scores: list[float], right: list[bool], k: int) -> tuple[float, float]:
    """The worst and the mean of "a right one is among the first k" over every order that respects the scores."""
    hits = [
        any(right[i] for i in order[:k])
        for order in permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    return float(min(hits)), float(np.mean(hits))


@pytest.mark.parametrize("seed", range(12))
def test_strict_and_expected_against_every_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores_NM = rng.integers(0, 3, (6, 6)).astype(np.float32)  # three values in six places: many ties
    right_NM = rng.random((6, 6)) < 0.35
    right_NM[np.arange(6), rng.integers(0, 6, 6)] = True
    found = ranking(scores_NM, right_NM)
    for k in KS:
        for row in range(6):
            worst, mean = brute(scores_NM[row].tolist(), right_NM[row].tolist(), k)
            assert found.expected(k)[row] == pytest.approx(mean, abs=1e-12)
            # Ties with wrong ones count as if all of those came first; a tie among right ones costs nothing.
            assert found.strict(k)[row] == worst
            assert (found.rank()[row] <= k) == worst


def field_recall(scores_NM: NDArray[np.float32], owner_M: NDArray[np.int64], k: int) -> tuple[float, float]:
    """Image to text and text to image as in the Karpathy evaluation: sort, take the best of a picture's captions."""
    to_text = []
    for image, row in enumerate(scores_NM):
        order = np.argsort(-row, kind="stable")
        best = min(int(np.where(order == caption)[0][0]) for caption in np.flatnonzero(owner_M == image))
        to_text.append(best < k)
    to_image = [int(np.where(np.argsort(-scores_NM[:, c]) == owner_M[c])[0][0]) < k for c in range(len(owner_M))]
    return float(np.mean(to_text)), float(np.mean(to_image))


def test_five_captions_a_picture_as_the_field_counts() -> None:
    rng = np.random.default_rng(0)
    owner_M = np.repeat(np.arange(40), 5)
    right_NM = owner_M[None] == np.arange(40)[:, None]
    scores_NM = (rng.normal(size=(40, 200)) + 1.2 * right_NM).astype(np.float32)
    to_text, to_image = ranking(scores_NM, right_NM), ranking(scores_NM.T, right_NM.T)
    for k in (1, 5, 10):
        expected = field_recall(scores_NM, owner_M, k)
        assert (to_text.strict(k).mean(), to_image.strict(k).mean()) == pytest.approx(expected, abs=1e-12)
        assert 0.1 < expected[1] < expected[0] <= 1.0  # the best of five is easier than one of one
    assert to_text.tie_rate == to_image.tie_rate == 0.0
    assert np.array_equal(to_text.strict(5), to_text.expected(5))  # no ties: both are the same


def test_a_constant_score() -> None:
    owner_M = np.repeat(np.arange(4), 5)
    right_NM = owner_M[None] == np.arange(4)[:, None]
    found = ranking(np.zeros((4, 20), np.float32), right_NM)
    assert found.tie_rate == 1.0
    for k in (1, 5, 10):
        assert found.strict(k).tolist() == [0.0] * 4
        assert found.expected(k) == pytest.approx(np.full(4, chance_at(k, 20, 5)))
    assert ranking(np.zeros((20, 4), np.float32), right_NM.T).expected(1) == pytest.approx(np.full(20, 0.25))


def test_chance_is_hypergeometric() -> None:
    rng = np.random.default_rng(1)
    drawn = [bool((rng.permutation(20)[:5] < 3).any()) for _ in range(20_000)]
    assert chance_at(5, 20, 3) == pytest.approx(float(np.mean(drawn)), abs=0.012)
    assert chance_at(1, 20, 3) == pytest.approx(3 / 20)
    assert chance_at(18, 20, 3) == 1.0
    assert chance_at(0, 20, 3) == 0.0
