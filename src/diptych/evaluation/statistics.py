"""Intervals and tests: bootstrap over independent units, paired comparison.

N units, R resamples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from diptych.core.records.results import Metric
from diptych.core.seeding import hash_to_int

RESAMPLES = 2000
_CHUNK = 200


def mean_metric(
    values: Sequence[float], units: Sequence[str] | None = None, chance: float | None = None, seed: int = 0
) -> Metric:
    """The mean with its 95 % percentile bootstrap interval.

    Args:
        values: one a sample.
        units: of each value, where several values share an independent unit (the captions of one picture): units are
            resampled, not values.
    """
    if not values:
        return Metric(float("nan"), chance=chance, n=0)
    sums, counts = by_unit(values, units)
    low, high = interval(sums, counts, seed)
    return Metric(float(sums.sum() / counts.sum()), low, high, chance, len(sums))


def class_mean_metric(values: Sequence[float], classes: Sequence[int], chance: float, seed: int = 0) -> Metric:
    """The mean over classes of each class's mean; samples are resampled within their class, for classes are given."""
    found, which = np.asarray(values, np.float64), np.asarray(classes)
    parts = {int(index): found[which == index] for index in np.unique(which)}
    means_CR = [resampled(part, np.ones_like(part), hash_to_int(seed, index)) for index, part in parts.items()]
    low, high = np.quantile(np.mean(means_CR, axis=0), [0.025, 0.975])
    value = float(np.mean([part.mean() for part in parts.values()]))
    return Metric(value, float(low), float(high), chance, len(found))


def by_unit(values: Sequence[float], units: Sequence[str] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values of each unit."""
    found: NDArray[np.float64] = np.asarray(values, np.float64)
    if units is None:
        return found, np.ones_like(found)
    _, which = np.unique(np.asarray(units), return_inverse=True)
    sums: NDArray[np.float64] = np.bincount(which, weights=found).astype(np.float64)
    return sums, np.bincount(which).astype(np.float64)


def interval(
    sums_N: NDArray[np.float64], counts_N: NDArray[np.float64], seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap of sum / count over units."""
    means_R = resampled(sums_N, counts_N, seed)
    tail = (1 - level) / 2
    low, high = np.quantile(means_R, [tail, 1 - tail])
    return float(low), float(high)


def resampled(sums_N: NDArray[np.float64], counts_N: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The mean of each of `RESAMPLES` bootstrap samples of the units."""
    rng = np.random.Generator(np.random.PCG64(hash_to_int("bootstrap", seed)))
    number = len(sums_N)
    means = []
    for _ in range(RESAMPLES // _CHUNK):
        drawn = rng.integers(number, size=(_CHUNK, number))
        means.append(sums_N[drawn].sum(1) / counts_N[drawn].sum(1))
    return np.concatenate(means)


def paired(
    first: Sequence[float], second: Sequence[float], units: Sequence[str] | None = None, seed: int = 0
) -> tuple[Metric, float]:
    """Second minus first on the same samples, with its interval, and a two-sided p-value.

    The p-value is that of the exact sign test over the units that differ (McNemar's, for right and wrong).
    """
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    sums, counts = by_unit(list(differences), units)
    low, high = interval(sums, counts, seed)
    wins, losses = int((sums > 1e-12).sum()), int((sums < -1e-12).sum())
    p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return Metric(float(sums.sum() / counts.sum()), low, high, 0.0, len(sums)), p


def standard_error(values: Sequence[float], units: Sequence[str] | None = None) -> float:
    """The standard error of the mean over independent units (the ratio estimator's where units differ in size).

    Returns:
        NaN for fewer than two units.
    """
    sums_N, counts_N = by_unit(values, units)
    number = len(sums_N)
    if number < 2:
        return float("nan")
    residual_N = sums_N - counts_N * (sums_N.sum() / counts_N.sum())
    variance = float(np.square(residual_N).sum()) / (number - 1)
    return math.sqrt(variance / number) / float(counts_N.mean())
