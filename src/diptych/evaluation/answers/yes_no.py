"""Answers of yes and no: how a written answer is read, and what the answers come to.

N questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diptych.core.records.results import Metric
from diptych.evaluation.statistics import by_unit, interval, mean_metric

YES, NO = "yes", "no"
CHOICES = (YES, NO)
_DENIES = frozenset(["No", "not", "no"])


def read_yes_no(answer: str) -> str:
    """POPE's reading: "no" where the first sentence has "No", "no" or "not" as a word of its own, else "yes"."""
    words = answer.partition(".")[0].replace(",", "").split()
    return NO if _DENIES & set(words) else YES


@dataclass(frozen=True)
class Judgement:
    """A question that was answered.

    Attributes:
        unit: the picture, which intervals are over.
        true, said: "yes" or "no".
    """

    unit: str
    true: str
    said: str


def yes_no_metrics(found: Sequence[Judgement]) -> dict[str, Metric]:
    """Accuracy, F1, precision and recall of "yes", and the share of "yes"; precision only where it is ever said.

    Chance is a coin for the accuracy and the share, and who always says yes for F1 and precision.
    """
    units = [one.unit for one in found]
    right = [float(one.said == one.true) for one in found]
    yes_share = sum(one.true == YES for one in found) / len(found)
    both = [2.0 * (one.said == one.true == YES) for one in found]
    either = [float(one.said == YES) + float(one.true == YES) for one in found]
    metrics = {"accuracy": mean_metric(right, units, 0.5)}
    if any(either):
        metrics["f1"] = ratio_metric(both, either, units, 2 * yes_share / (1 + yes_share))
    for name, chosen, chance in (
        ("precision", [one for one in found if one.said == YES], yes_share),
        ("recall", [one for one in found if one.true == YES], None),
    ):
        if chosen:
            hits = [float(one.said == one.true) for one in chosen]
            metrics[name] = mean_metric(hits, [one.unit for one in chosen], chance)
    metrics["yes_rate"] = mean_metric([float(one.said == YES) for one in found], units)
    return metrics


def ratio_metric(
    above: Sequence[float], below: Sequence[float], units: Sequence[str], chance: float | None = None, seed: int = 0
) -> Metric:
    """One sum over another, with its bootstrap interval over the units that have anything below the line."""
    above_N, _ = by_unit(above, units)
    below_N, _ = by_unit(below, units)
    counted = below_N > 0
    low, high = interval(above_N[counted], below_N[counted], seed)
    return Metric(float(np.sum(above) / np.sum(below)), low, high, chance, int(counted.sum()))
