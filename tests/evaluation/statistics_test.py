"""Intervals that hold the truth as often as they say, and a paired test against its closed form."""

from itertools import product
from math import comb, sqrt

import numpy as np
import pytest

from diptych.evaluation.statistics import (
    by_unit,
    class_mean_metric,
    interval,
    mean_metric,
    paired,
    resampled,
    standard_error,
)


def test_a_mean_with_its_interval_against_the_normal_approximation() -> None:
    values = [1.0] * 300 + [0.0] * 200
    metric = mean_metric(values, chance=0.5, seed=3)
    assert (metric.value, metric.chance, metric.n) == (0.6, 0.5, 500)
    half = 1.96 * sqrt(0.6 * 0.4 / 500)
    assert metric.low == pytest.approx(0.6 - half, abs=0.006)
    assert metric.high == pytest.approx(0.6 + half, abs=0.006)
    assert metric == mean_metric(values, chance=0.5, seed=3)
    assert metric != mean_metric(values, chance=0.5, seed=4)


def test_resamples_are_drawn_with_replacement_from_all_units() -> None:
    means, counts = np.unique(resampled(np.array([0.0, 1.0, 4.0]), np.ones(3), seed=0) * 3, return_counts=True)
    # Three of three with replacement: 27 equally likely draws.
    draws = [sum(draw) for draw in product((0, 1, 4), repeat=3)]
    assert means.round(6).tolist() == sorted(set(draws))
    expected = [draws.count(round(total)) / 27 for total in means]
    assert counts / counts.sum() == pytest.approx(expected, abs=0.03)


def test_the_interval_covers_the_truth_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        metric = mean_metric((rng.random(80) < 0.4).astype(float).tolist(), seed=seed)
        assert metric.low is not None and metric.high is not None
        covered += metric.low <= 0.4 <= metric.high
    # Binomial(200, .95) is in 180..198 with probability .99; percentile intervals of 80 draws fall a little short.
    assert 178 <= covered <= 198


def test_the_mean_over_classes_and_its_interval_over_samples() -> None:
    # Two classes of 400 and 100 that are right 90 and 50 times in 100: the mean is .7 whatever their sizes.
    values = [1.0] * 360 + [0.0] * 40 + [1.0] * 50 + [0.0] * 50
    metric = class_mean_metric(values, [0] * 400 + [1] * 100, 0.5)
    assert (metric.value, metric.chance, metric.n) == (pytest.approx(0.7), 0.5, 500)
    half = 1.96 * sqrt(0.9 * 0.1 / 400 + 0.5 * 0.5 / 100) / 2
    assert metric.low is not None and metric.high is not None
    assert (metric.high - metric.low) / 2 == pytest.approx(half, rel=0.06)
    assert class_mean_metric([1.0, 0.0], [0, 7], 0.5).value == 0.5  # classes without samples do not count


def test_units_are_resampled_and_not_values() -> None:
    # Five equal captions a picture carry what one carries: the interval must not shrink by sqrt(5).
    pictures = [float(i % 2) for i in range(100)]
    five = [value for value in pictures for _ in range(5)]
    units = [f"picture{i}" for i in range(100) for _ in range(5)]
    grouped, alone, pretended = mean_metric(five, units), mean_metric(pictures), mean_metric(five)
    assert (grouped.value, grouped.n) == (0.5, 100)

    def width(metric):  # type: ignore[no-untyped-def]
        return metric.high - metric.low

    assert width(grouped) == pytest.approx(width(alone), rel=0.1)
    assert width(grouped) == pytest.approx(sqrt(5) * width(pretended), rel=0.15)


def test_units_of_unequal_size_keep_the_mean_over_values() -> None:
    sums, counts = by_unit([1.0, 0.0, 0.0, 1.0], ["b", "a", "a", "b"])
    assert (sums.tolist(), counts.tolist()) == ([0.0, 2.0], [2.0, 2.0])
    assert mean_metric([1.0, 0.0, 0.0], ["a", "b", "b"]).value == pytest.approx(1 / 3)


def test_the_ends_of_what_there_is() -> None:
    certain = mean_metric([1.0] * 9)
    assert (certain.value, certain.low, certain.high) == (1.0, 1.0, 1.0)
    nothing = mean_metric([], chance=0.5)
    assert np.isnan(nothing.value) and nothing.low is None and nothing.n == 0


def test_a_wider_level_is_a_wider_interval() -> None:
    sums, counts = by_unit(np.random.default_rng(0).normal(size=50).tolist(), None)
    low, high = interval(sums, counts, 0, level=0.95)
    wide_low, wide_high = interval(sums, counts, 0, level=0.99)
    assert wide_low < low < high < wide_high


def mcnemar(wins: int, losses: int) -> float:
    """The exact two-sided p-value of McNemar's test, from the binomial coefficients."""
    n, few = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(comb(n, i) for i in range(few + 1)) / 2**n)


@pytest.mark.parametrize(("wins", "losses"), [(12, 3), (3, 12), (7, 6), (5, 0), (1, 0), (40, 20)])
def test_paired_comparison_against_mcnemar(wins: int, losses: int) -> None:
    both, neither = 30, 20
    first = [1.0] * both + [0.0] * neither + [0.0] * wins + [1.0] * losses
    second = [1.0] * both + [0.0] * neither + [1.0] * wins + [0.0] * losses
    difference, p = paired(first, second)
    n = len(first)
    assert difference.value == pytest.approx((wins - losses) / n)
    assert p == pytest.approx(mcnemar(wins, losses), rel=1e-9)
    variance = ((wins + losses) / n - ((wins - losses) / n) ** 2) / n
    assert difference.low is not None and difference.high is not None
    if wins + losses > 20:
        assert difference.high - difference.low == pytest.approx(2 * 1.96 * sqrt(variance), rel=0.12)


def test_pairing_finds_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    first = (rng.random(400) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:14]] = 1.0  # 14 samples better, none worse
    one, other = mean_metric(first.tolist()), mean_metric(second.tolist())
    assert one.high is not None and other.low is not None and one.high > other.low  # the intervals overlap
    difference, p = paired(first.tolist(), second.tolist())
    assert difference.low is not None and difference.low > 0
    assert p == pytest.approx(2 / 2**14)


def test_nothing_differs() -> None:
    difference, p = paired([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (difference.value, difference.low, difference.high, p) == (0.0, 0.0, 0.0, 1.0)


def test_pairs_by_unit() -> None:
    units = ["a", "a", "b", "b", "c", "c"]
    # "a" gains one caption and loses one: it does not differ. "b" and "c" gain.
    difference, p = paired([1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0], units)
    assert difference.value == pytest.approx(0.5)
    assert (difference.n, p) == (3, mcnemar(2, 0))


def test_false_alarms_are_rare() -> None:
    rng = np.random.default_rng(0)
    alarms = sum(
        paired((rng.random(60) < 0.5).astype(float).tolist(), (rng.random(60) < 0.5).astype(float).tolist())[1] < 0.05
        for _ in range(200)
    )
    assert alarms <= 14  # the exact test stays below 5 %


def test_the_standard_error_is_the_spread_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=400)
    assert standard_error(values.tolist()) == pytest.approx(values.std(ddof=1) / 20)
    units = [str(i // 4) for i in range(400)]
    means = values.reshape(100, 4).mean(1)
    assert standard_error(values.tolist(), units) == pytest.approx(means.std(ddof=1) / 10)
    uneven = [str(i) for i in np.random.default_rng(1).integers(0, 90, 400)]
    spread = resampled(*by_unit(values.tolist(), uneven), seed=0).std()
    assert standard_error(values.tolist(), uneven) == pytest.approx(spread, rel=0.08)
    assert np.isnan(standard_error([1.0]))
