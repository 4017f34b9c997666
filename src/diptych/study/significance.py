"""Which differences between recipes are more than luck: every pair on every number, corrected for their number.

Several seeds: a paired t test over seeds, for one seed draws the same order of data in every recipe, and all are
evaluated on the same samples. One seed: the exact sign test over the samples on which two recipes differ, which says
how sure the difference between these two models is, not between two recipes. Holm's correction (Holm 1979) over all
pairs and numbers of the study keeps the chance of a single false claim below 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from diptych.core.records.results import Metric, read_samples
from diptych.core.records.run_folder import RunFolder
from diptych.evaluation.statistics import paired
from diptych.study.findings import Row, RunRecord

LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """Of two recipes on one number.

    Attributes:
        value: second minus first; low, high: its 95 % interval by itself, not corrected.
        p: by itself; corrected: after Holm's correction.
    """

    row: Row
    first: str
    second: str
    value: float
    low: float
    high: float
    p: float
    corrected: float

    @property
    def significant(self) -> bool:
        return self.corrected < LEVEL


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = highest
    return adjusted


def differences(rows: Sequence[Row], runs: Sequence[RunRecord], base: str = "") -> list[Difference]:
    """Every pair of recipes on every number that both have, the surest first.

    Args:
        base: compare all others with this one alone.
    """
    found = list(_tested(rows, runs, base))
    corrected = holm([p for *_, p in found])
    made = [
        Difference(row, first, second, metric.value, metric.low or 0.0, metric.high or 0.0, p, adjusted)
        for (row, first, second, metric, p), adjusted in zip(found, corrected, strict=True)
    ]
    return sorted(made, key=lambda one: (one.corrected, one.p, -abs(one.value)))


def _tested(rows: Sequence[Row], runs: Sequence[RunRecord], base: str) -> Iterator[tuple[Row, str, str, Metric, float]]:
    for row in rows:
        there = [recipe for recipe, cell in row.cells.items() if cell.metric]
        for first, second in combinations(sorted(there, key=lambda recipe: recipe != base) if base else there, 2):
            if base and first != base:
                continue
            one, other = row.cells[first].seeds, row.cells[second].seeds
            seeds = sorted(one.keys() & other.keys())
            if len(seeds) > 1:
                metric, p = over_seeds([one[seed] for seed in seeds], [other[seed] for seed in seeds])
            elif (tested := _over_samples(row, first, second, runs)) is not None:
                metric, p = tested
            else:
                continue
            yield row, first, second, metric, p


def over_seeds(first: Sequence[float], second: Sequence[float]) -> tuple[Metric, float]:
    """Second minus first with its t interval, and the p-value of the paired t test."""
    difference = np.asarray(second) - np.asarray(first)
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    if spread == 0:
        return Metric(mean, mean, mean, 0.0, len(difference)), 1.0 if mean == 0 else 0.0
    test = stats.ttest_1samp(difference, 0.0)
    low, high = test.confidence_interval(0.95)
    return Metric(mean, float(low), float(high), 0.0, len(difference)), float(test.pvalue)


def _over_samples(row: Row, first: str, second: str, runs: Sequence[RunRecord]) -> tuple[Metric, float] | None:
    """On the samples that both were evaluated on; None for numbers that no sample has by itself."""
    values = []
    for recipe in (first, second):
        folder = next(run.folder for run in runs if run.recipe == recipe and run.finished is not None)
        records = read_samples(RunFolder(folder).evaluation / row.ability.benchmark)
        values.append({record.key: record.values[row.metric] for record in records if row.metric in record.values})
    shared = [key for key in values[0] if key in values[1]]
    if not shared:
        return None
    one, other = ([side[key] for key in shared] for side in values)
    return paired(one, other, [key.partition("#")[0] for key in shared])
