"""What confidences are worth: metrics, and the risk-coverage curve for the report.

R resamples, N questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError
from diptych.core.records.results import Metric
from diptych.core.seeding import hash_to_int, unit_interval
from diptych.evaluation.metrics.selective import (
    Array,
    aurc,
    best_threshold,
    coverage_at_risk,
    effective,
    risks,
)
from diptych.evaluation.statistics import mean_metric

RISKS = (0.01, 0.05, 0.1, 0.2)
COSTS = (1, 10, 100)
VALIDATION = 0.5
"""Share of the pictures on whose questions thresholds are chosen; the others' are scored."""
_RESAMPLES = 500
_POINTS = 100


@dataclass(frozen=True)
class Sure:
    """Questions with how sure a model was and how right.

    Attributes:
        units_N: the picture of each, which intervals are over.
    """

    units_N: NDArray[np.str_]
    confidence_N: Array
    accuracy_N: Array

    def some(self, chosen: NDArray[Any]) -> Sure:
        """Those at some positions."""
        return Sure(self.units_N[chosen], self.confidence_N[chosen], self.accuracy_N[chosen])


def selective_metrics(found: Sure, seed: int) -> dict[str, Metric]:
    """AURC with the best and the blind one, coverage at four risks, effective reliability at three costs.

    Raises:
        DataError: fewer than two pictures, of which none is left to choose thresholds on.
    """
    n, risk = len(np.unique(found.units_N)), float(1 - found.accuracy_N.mean())
    metrics = {
        "aurc": _resampled(found, aurc, seed),
        "aurc_best": Metric(aurc(found.accuracy_N, found.accuracy_N), n=n),
        "aurc_unsorted": Metric(risk, n=n),
    }
    for level in RISKS:
        at = _resampled(found, partial(coverage_at_risk, risk=level), seed)
        metrics[f"coverage_at_risk_{round(100 * level)}"] = replace(at, chance=float(risk <= level))
    return metrics | _effective(found, seed)


def _effective(found: Sure, seed: int) -> dict[str, Metric]:
    """Thresholds are chosen on one part of the pictures and tried on the other; chance answers always, or never."""
    names = np.unique(found.units_N)
    for_choice = {name for name in names.tolist() if unit_interval("validation", seed, name) < VALIDATION}
    chosen_N = np.array([name in for_choice for name in found.units_N.tolist()])
    if chosen_N.all() or not chosen_N.any():
        raise DataError(f"{len(names)} picture(s) cannot be parted into some to choose thresholds on and some to score")
    choice, test = found.some(chosen_N), found.some(~chosen_N)
    metrics = {}
    for cost in COSTS:
        threshold = best_threshold(choice.confidence_N, choice.accuracy_N, cost)
        values = effective(test.confidence_N, test.accuracy_N, threshold, cost)
        always = float(effective(test.confidence_N, test.accuracy_N, -np.inf, cost).mean())
        metric = mean_metric(values.tolist(), test.units_N.tolist(), max(0.0, always), seed)
        metrics[f"effective_reliability_{cost}"] = replace(metric, unit="number")
        metrics[f"effective_reliability_{cost}_always"] = Metric(always, n=metric.n, unit="number")
    return metrics


def _resampled(found: Sure, measure: Callable[[Array, Array], float], seed: int) -> Metric:
    """A measure with its percentile bootstrap interval over pictures."""
    names, unit_N = np.unique(found.units_N, return_inverse=True)
    members = [np.flatnonzero(unit_N == place) for place in range(len(names))]
    rng = np.random.Generator(np.random.PCG64(hash_to_int("bootstrap", seed)))
    drawn = []
    for _ in range(_RESAMPLES):
        rows = np.concatenate([members[place] for place in rng.integers(len(names), size=len(names))])
        drawn.append(measure(found.confidence_N[rows], found.accuracy_N[rows]))
    value = measure(found.confidence_N, found.accuracy_N)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Metric(value, min(float(low), value), max(float(high), value), n=len(names))


def risk_coverage(found: Sure) -> dict[str, Any]:
    """The curve for the report, at no more than a hundred coverages, and that of the best order."""
    number = len(found.confidence_N)
    kept = np.unique(np.linspace(0, number - 1, min(number, _POINTS)).astype(int))
    own, best = risks(found.confidence_N, found.accuracy_N), risks(found.accuracy_N, found.accuracy_N)
    return {
        "coverage": ((kept + 1) / number).round(4).tolist(),
        "risk": own[kept].round(4).tolist(),
        "best": best[kept].round(4).tolist(),
    }


def sure_of(rows: Sequence[tuple[str, float, float]]) -> Sure:
    """Of the picture, the confidence and the accuracy of each question."""
    units, confidence, accuracy = zip(*rows, strict=True)
    return Sure(np.array(units), np.array(confidence, np.float64), np.array(accuracy, np.float64))
