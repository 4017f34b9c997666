"""Whether a model is right as often as it says: reliability and expected calibration error.

Guo et al. 2017, arXiv 1706.04599. N questions, B bins of equal width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BINS = 15


@dataclass(frozen=True)
class Bin:
    """Questions whose confidence lies in one interval: their number, mean confidence and accuracy."""

    count: int
    confidence: float
    accuracy: float


def reliability(confidence_N: Array, right_N: Array, bins: int = BINS) -> list[Bin]:
    """The bins that hold anything, by confidence; each is (low, high] of [0, 1], and the first holds 0 too."""
    place_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    return [
        Bin(int(held.sum()), float(confidence_N[held].mean()), float(right_N[held].mean()))
        for index in range(bins)
        if (held := place_N == index).any()
    ]


def calibration_error(found: list[Bin]) -> float:
    """The mean distance of accuracy and confidence over the bins, weighted by what they hold: 0 is calibrated."""
    total = sum(one.count for one in found)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in found) / total
