"""Selective answering by hand and by brute force over every threshold and order."""

import math
from itertools import permutations

import numpy as np
import pytest

from diptych.evaluation.metrics.selective import aurc, best_threshold, coverage_at_risk, effective, risks

SURE = np.array([0.9, 0.2, 0.6, 0.6, 0.4])
RIGHT = np.array([1.0, 0.0, 1.0, 0.0, 0.3])


def curve_in_order(accuracy: list[float]) -> np.ndarray:
    return np.array([1 - np.mean(accuracy[: n + 1]) for n in range(len(accuracy))])


def test_without_ties() -> None:
    sure = np.array([0.9, 0.2, 0.7, 0.6, 0.4])
    assert risks(sure, RIGHT).tolist() == pytest.approx(curve_in_order([1.0, 1.0, 0.0, 0.3, 0.0]).tolist())
    assert aurc(sure, RIGHT) == pytest.approx(np.mean([0, 0, 1 / 3, 1.7 / 4, 2.7 / 5]))


def test_ties_are_the_mean_over_their_orders() -> None:
    both = [curve_in_order([1.0, *tied, 0.3, 0.0]) for tied in permutations([1.0, 0.0])]
    assert risks(SURE, RIGHT).tolist() == pytest.approx(np.mean(both, axis=0).tolist())
    assert aurc(np.ones(5), RIGHT) == pytest.approx(1 - RIGHT.mean())


def test_the_best_order_is_the_best() -> None:
    best = aurc(RIGHT, RIGHT)
    orders = [aurc(np.array(order, float), RIGHT) for order in permutations(range(5))]
    assert best == pytest.approx(min(orders)) and max(orders) > best


def thresholds(sure: np.ndarray) -> list[float]:
    return [*sorted(set(sure.tolist())), math.inf]


@pytest.mark.parametrize("risk", [0.0, 0.2, 0.34, 0.5, 0.6])
def test_coverage_by_trying_every_threshold(risk: float) -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    for _ in range(30):
        sure, right = rng.integers(0, 4, 8) / 4, rng.integers(0, 3, 8) / 2
        kept = [sure >= threshold for threshold in thresholds(sure)]
        possible = [one.mean() for one in kept if one.any() and 1 - right[one].mean() <= risk + 1e-12]
        assert coverage_at_risk(sure, right, risk) == pytest.approx(max(possible, default=0.0))


@pytest.mark.parametrize("cost", [1, 10])
def test_the_best_threshold_by_trying_every_one(cost: float) -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    for _ in range(30):
        sure, right = rng.integers(0, 5, 9) / 5, rng.integers(0, 3, 9) / 2
        worth = {threshold: effective(sure, right, threshold, cost).sum() for threshold in thresholds(sure)}
        assert worth[best_threshold(sure, right, cost)] == pytest.approx(max(worth.values()))


def test_effective_reliability_by_hand() -> None:
    assert effective(SURE, RIGHT, 0.5, 10).tolist() == [1.0, 0.0, 1.0, -10.0, 0.0]
    assert effective(SURE, RIGHT, -math.inf, 1).mean() == pytest.approx((1 - 1 + 1 - 1 + 0.3) / 5)
    assert effective(SURE, RIGHT, math.inf, 1).sum() == 0.0
    assert best_threshold(np.array([0.5, 0.4]), np.zeros(2), 1) == math.inf  # better say nothing
    # Who knows what it knows is never worse than answering always, or never.
    for cost in (1, 10, 100):
        oracle = effective(RIGHT, RIGHT, best_threshold(RIGHT, RIGHT, cost), cost).mean()
        assert oracle == pytest.approx(2.3 / 5)
        assert oracle >= max(0.0, effective(RIGHT, RIGHT, -math.inf, cost).mean())
