"""The kernel distance between two sets of feature vectors: squared maximum mean discrepancy, without bias.

Binkowski et al. 2018, arXiv 1801.01401 (KID): polynomial kernel (x.y / D + 1)^3, mean over random subsets. Its
expectation does not depend on how many vectors there are, and it may come out below zero.

N, M vectors, D width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.core.seeding import hash_to_int

Array = NDArray[np.float64]
DEGREE = 3


def squared_mmd(first_ND: Array, second_MD: Array) -> float:
    """The unbiased estimate: pairs of a vector with itself are left out.

    Raises:
        ValueError: fewer than two vectors on a side.
    """
    number, other = len(first_ND), len(second_MD)
    if min(number, other) < 2:
        raise ValueError(f"an unbiased estimate needs two vectors or more a side, got {number} and {other}")
    within = _off_diagonal_mean(_kernel(first_ND, first_ND)) + _off_diagonal_mean(_kernel(second_MD, second_MD))
    return float(within - 2 * _kernel(first_ND, second_MD).mean())


def kernel_distances(first_ND: Array, second_MD: Array, subsets: int, size: int, seed: int) -> list[float]:
    """The estimate on each of `subsets` pairs of random subsets of `size` vectors, drawn without replacement."""
    rng = np.random.Generator(np.random.PCG64(hash_to_int("kernel distance", seed)))
    return [
        squared_mmd(
            first_ND[rng.choice(len(first_ND), size, replace=False)],
            second_MD[rng.choice(len(second_MD), size, replace=False)],
        )
        for _ in range(subsets)
    ]


def _kernel(a_ND: Array, b_MD: Array) -> Array:
    kernel_NM: Array = (a_ND @ b_MD.T / a_ND.shape[1] + 1) ** DEGREE
    return kernel_NM


def _off_diagonal_mean(kernel_NN: Array) -> float:
    number = len(kernel_NN)
    return float((kernel_NN.sum() - np.trace(kernel_NN)) / (number * (number - 1)))
