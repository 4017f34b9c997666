"""Whether a claim holds: paired gains over the seeds, their standard error, and a one-sided paired t test."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from _claim import LEVEL, Claim, Comparison
from scipy import stats

Values = Mapping[str, Sequence[Mapping[str, float]]]
"""Arm -> the values of each seed, by metric."""


def compared(comparison: Comparison, values: Values) -> dict[str, Any]:
    """One comparison as plain values; `holds` says whether it passes the threshold."""
    pairs = zip(values[comparison.treated], values[comparison.control], strict=True)
    gains = [gain(comparison, treated, control) for treated, control in pairs]
    mean, error = statistics.fmean(gains), standard_error(gains)
    p = paired_p(gains)
    return {
        "name": comparison.name,
        "treated": comparison.treated,
        "control": comparison.control,
        "metrics": list(comparison.metrics),
        **({"against": list(comparison.against)} if comparison.against else {}),
        "factor": comparison.factor,
        "margin": comparison.margin,
        "lower": comparison.lower,
        "errors": comparison.errors,
        "primary": comparison.primary,
        "gains": gains,
        "mean": mean,
        "standard_error": error if math.isfinite(error) else None,
        "t": mean / error if 0 < error < math.inf else None,
        "p": p,
        "holds": mean > comparison.errors * error and p < LEVEL,
    }


def gain(comparison: Comparison, treated: Mapping[str, float], control: Mapping[str, float]) -> float:
    """By how much the treated arm does better than was asked, at one seed."""
    ours = statistics.fmean(treated[name] for name in comparison.metrics)
    theirs = statistics.fmean(control[name] for name in comparison.against or comparison.metrics)
    ahead = ours - comparison.factor * theirs
    return (-ahead if comparison.lower else ahead) + comparison.margin


def standard_error(gains: Sequence[float]) -> float:
    """Of the mean; infinite for a single seed, of which nothing is known."""
    return statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf


def paired_p(gains: Sequence[float]) -> float:
    """The chance of a mean gain this large where there is none; 1 where a single seed says nothing."""
    if len(gains) < 2:
        return 1.0
    if len(set(gains)) == 1:
        return 0.0 if gains[0] > 0 else 1.0
    return float(stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue)


def verdict(claim: Claim, values: Values) -> tuple[str, list[dict[str, Any]]]:
    """ "holds" where every primary comparison does, "does not hold" otherwise; and all comparisons."""
    found = [compared(comparison, values) for comparison in claim.comparisons]
    holds = all(one["holds"] for one in found if one["primary"])
    return "holds" if holds else "does not hold", found
