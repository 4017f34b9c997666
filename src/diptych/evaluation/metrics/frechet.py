"""The Frechet distance between two sets of feature vectors, each as a Gaussian.

Heusel et al. 2017, arXiv 1706.08500 (FID, with Inception features). |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). Of so
few vectors that a covariance is poorly known it is biased upward, and the more so the fewer: compare equal numbers.

N, M vectors, D width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def frechet_distance(first_ND: Array, second_MD: Array) -> float:
    """The squared distance, in the features' unit squared; covariances are of N - 1 degrees of freedom.

    Raises:
        ValueError: fewer than two vectors on a side.
    """
    if min(len(first_ND), len(second_MD)) < 2:
        raise ValueError(f"a covariance needs two vectors or more, got {len(first_ND)} and {len(second_MD)}")
    moments = [(one.mean(0), np.atleast_2d(np.cov(one, rowvar=False))) for one in (first_ND, second_MD)]
    return frechet_of_gaussians(*moments[0], *moments[1])


def frechet_of_gaussians(mean1_D: Array, cov1_DD: Array, mean2_D: Array, cov2_DD: Array) -> float:
    """The squared distance between two Gaussians.

    The trace of (C1 C2)^(1/2) is that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric: no complex numbers come up,
    and singular covariances (fewer vectors than dimensions) are no special case.
    """
    root_DD = _root(cov1_DD)
    eigenvalues_D = np.linalg.eigvalsh(root_DD @ cov2_DD @ root_DD)
    both = np.sqrt(np.clip(eigenvalues_D, 0, None)).sum()
    distance = np.square(mean1_D - mean2_D).sum() + np.trace(cov1_DD) + np.trace(cov2_DD) - 2 * both
    return max(float(distance), 0.0)


def _root(cov_DD: Array) -> Array:
    """The symmetric square root of a positive semidefinite matrix."""
    values_D, vectors_DD = np.linalg.eigh(cov_DD)
    root_DD: Array = (vectors_DD * np.sqrt(np.clip(values_D, 0, None))) @ vectors_DD.T
    return root_DD
