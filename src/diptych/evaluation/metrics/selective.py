"""Answering only where one is sure: risk and coverage, and what a wrong answer costs.

Geifman and El-Yaniv 2017, arXiv 1705.08500; Whitehead et al. 2022, arXiv 2204.13631. Questions are answered from the
surest on: the coverage is the share that is answered, the risk 1 less the mean accuracy of these. Equally sure answers
are in no order, so each counts as their mean; a model that is equally sure of everything has its overall risk at every
coverage.

N questions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def risks(confidence_N: Array, accuracy_N: Array) -> Array:
    """[N] the risk of the 1, 2, ... N surest answers."""
    order_N = np.argsort(-confidence_N, kind="stable")
    _, tie_N = np.unique(-confidence_N[order_N], return_inverse=True)
    of_tie = np.bincount(tie_N, weights=1 - accuracy_N[order_N]) / np.bincount(tie_N)
    return np.cumsum(of_tie[tie_N]) / np.arange(1, len(order_N) + 1)


def aurc(confidence_N: Array, accuracy_N: Array) -> float:
    """The area under the risk-coverage curve: the mean risk over all coverages. Lower is better."""
    return float(risks(confidence_N, accuracy_N).mean())


def coverage_at_risk(confidence_N: Array, accuracy_N: Array, risk: float) -> float:
    """The largest share of the questions that some threshold answers at no more than this risk; 0 where none does."""
    found_N, sorted_N = risks(confidence_N, accuracy_N), -np.sort(-confidence_N)
    ends_N = np.append(sorted_N[1:] < sorted_N[:-1], True)  # a threshold cannot part the equally sure
    kept = np.flatnonzero(ends_N & (found_N <= risk + 1e-12))
    return float(kept[-1] + 1) / len(found_N) if len(kept) else 0.0


def effective(confidence_N: Array, accuracy_N: Array, threshold: float, cost: float) -> Array:
    """[N] effective reliability: the accuracy of an answer, -cost for one that is wholly wrong, 0 for none.

    Args:
        threshold: answers that are at least so sure are given.
    """
    worth_N = np.where(accuracy_N > 0, accuracy_N, -cost)
    return np.where(confidence_N >= threshold, worth_N, 0.0)


def best_threshold(confidence_N: Array, accuracy_N: Array, cost: float) -> float:
    """The threshold of the highest effective reliability, the highest of equally good ones; infinity for no answer."""
    order_N = np.argsort(-confidence_N, kind="stable")
    sums_N = np.cumsum(effective(confidence_N, accuracy_N, -math.inf, cost)[order_N])
    sorted_N = confidence_N[order_N]
    ends_N = np.append(sorted_N[1:] < sorted_N[:-1], True)
    best = int(np.argmax(np.where(ends_N, sums_N, -math.inf)))
    return float(sorted_N[best]) if sums_N[best] > 0 else math.inf
