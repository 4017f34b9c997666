"""Vectors in the coordinates in which they are coded: principal axes, each of deviation 1.

N vectors, M texts, D width, C channels kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_DEVIATION = 1e-4
"""An axis with less than this share of the widest one's deviation holds rounding errors and is not kept."""


@dataclass(frozen=True)
class Axes:
    """What was found on the vectors that a code is fitted to.

    Attributes:
        mean_D: their mean.
        axes_DC: orthonormal principal axes, widest first.
        deviation_C: along each axis.
        rest: the variance along all that was not kept.
    """

    mean_D: Tensor
    axes_DC: Tensor
    deviation_C: Tensor
    rest: float

    @property
    def variance(self) -> float:
        """The mean squared distance to the mean."""
        return float(self.deviation_C.square().sum()) + self.rest

    def coordinates(self, z_ND: Tensor) -> Tensor:
        """[N, C], of mean 0 and deviation 1 on the vectors that the axes are of."""
        return (z_ND - self.mean_D) @ self.axes_DC / self.deviation_C

    def of_texts(self, text_MD: Tensor) -> tuple[Tensor, Tensor]:
        """[M, C] and [M] such that z . text = coordinates . first + second, for z within the axes that are kept."""
        return text_MD @ self.axes_DC * self.deviation_C, text_MD @ self.mean_D

    def lost(self, z_ND: Tensor) -> Tensor:
        """The squared length [N] of what is not kept of each vector."""
        centred_ND = z_ND - self.mean_D
        return (centred_ND.square().sum(1) - (centred_ND @ self.axes_DC).square().sum(1)).clamp_min(0)


def principal_axes(z_ND: Tensor, most: int) -> Axes:
    """The axes of vectors, at most so many, in float64; none at all where every vector is the same."""
    z_ND = z_ND.double()
    mean_D = z_ND.mean(0)
    _, lengths_C, axes_CD = torch.linalg.svd(z_ND - mean_D, full_matrices=False)
    deviation_C = lengths_C / len(z_ND) ** 0.5
    is_held = deviation_C > max(LEAST_DEVIATION * float(deviation_C.max()), 1e-7)
    is_held[most:] = False
    rest = float(deviation_C[~is_held].square().sum())
    return Axes(mean_D, axes_CD[is_held].T, deviation_C[is_held], rest)
