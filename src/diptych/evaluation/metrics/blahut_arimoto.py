"""What no code can beat: rate-distortion functions and capacities on small alphabets, and the known closed forms.

The rate-distortion function R(D) is the least I(X; Y) over all p(y | x) with an expected distortion of at most D.
Blahut (1972) and Arimoto (1972) find it by alternating two steps that each can only improve

    minimise over p(y | x)   I(X; Y) + beta E d(x, y)       beta in bits for one unit of distortion, -R'(D)

and every iterate comes with a bound on how far it is from the optimum. Closed forms from Cover and Thomas, chapter 10.

X symbols of the source, Y of the reproduction or output, C components of a Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.core.errors import ConfigError, DataError
from diptych.evaluation.metrics.discrete_information import (
    Floats,
    channel,
    entropy,
    mutual_information,
    probabilities,
    through_channel,
)

MOST_STEPS = 100_000


class RatePoint(NamedTuple):
    """One point of a rate-distortion curve.

    Attributes:
        beta: the price of a unit of distortion, in bits.
        rate: bits a symbol.
        distortion: its expectation.
        channel_XY: the p(y | x) that attains it.
    """

    beta: float
    rate: float
    distortion: float
    channel_XY: Floats


def rate_distortion(source_X: Any, distortion_XY: Any, beta: float, tolerance: float = 1e-6) -> RatePoint:
    """The point of the curve where a unit of distortion costs `beta` bits.

    Args:
        source_X: probabilities of the symbols.
        distortion_XY: what it costs to reproduce x as y; finite and not negative.
        tolerance: how far, in bits, rate + beta * distortion may be above the least there is; where a symbol is just
            about to go out of use, ten times less takes ten times as many steps.

    Raises:
        DataError: a source that is no distribution, or a table of distortions that does not fit it.
        ConfigError: a negative beta, or no convergence.
    """
    source_X = probabilities(source_X, "the source")
    cost_XY = _distortions(distortion_XY, len(source_X))
    if not beta >= 0:
        raise ConfigError(f"beta is the price of distortion in bits and cannot be {beta}: give 0 or more")
    # Less the least of each row, which changes neither the channel nor the bound and keeps every row above 0.
    weight_XY = np.exp2(-beta * (cost_XY - cost_XY.min(1, keepdims=True)))
    channel_XY = _reproduction(source_X, weight_XY, tolerance) * weight_XY
    channel_XY /= channel_XY.sum(1, keepdims=True)
    joint_XY = source_X[:, None] * channel_XY
    return RatePoint(beta, mutual_information(joint_XY / joint_XY.sum()), float((joint_XY * cost_XY).sum()), channel_XY)


def _reproduction(source_X: Floats, weight_XY: Floats, tolerance: float) -> Floats:
    """The best distribution [Y] of the reproduction."""
    q_Y: Floats = np.full(weight_XY.shape[1], 1 / weight_XY.shape[1])
    for _ in range(MOST_STEPS):
        gain_Y = (source_X / (weight_XY @ q_Y)) @ weight_XY
        q_Y = q_Y * gain_Y
        # Blahut's bound: the optimum is at most max_y log gain below the current value.
        if np.log2(gain_Y.max()) <= tolerance:
            return q_Y
    raise ConfigError(f"no rate within {tolerance:g} bits in {MOST_STEPS} steps: allow a larger tolerance")


def rate_distortion_curve(
    source_X: Any, distortion_XY: Any, betas: Sequence[float], tolerance: float = 1e-6
) -> list[RatePoint]:
    """A point for each beta; the rate grows with beta and the distortion falls."""
    return [rate_distortion(source_X, distortion_XY, beta, tolerance) for beta in betas]


def channel_capacity(channel_XY: Any, tolerance: float = 1e-9) -> tuple[float, Floats]:
    """The most bits a use of a channel carries, and the input distribution [X] that carries them (Arimoto 1972).

    Raises:
        DataError: rows that are not distributions.
        ConfigError: no convergence.
    """
    table_XY = channel(channel_XY)
    p_X = np.full(len(table_XY), 1 / len(table_XY))
    for _ in range(MOST_STEPS):
        output_Y = p_X @ table_XY
        ratio_XY = np.divide(table_XY, output_Y, out=np.ones_like(table_XY), where=table_XY > 0)
        divergence_X = (table_XY * np.log2(ratio_XY)).sum(1)
        p_X = p_X * 2.0**divergence_X
        lower = float(np.log2(p_X.sum()))
        p_X = p_X / p_X.sum()
        if float(divergence_X.max()) - lower <= tolerance:
            return mutual_information(through_channel(p_X, table_XY)), p_X
    raise ConfigError(f"no capacity within {tolerance:g} bits in {MOST_STEPS} steps: allow a larger tolerance")


def gaussian_rate(variance_C: Any, distortion: float) -> float:
    """R(D) of independent Gaussian components under squared error, in bits: 1/2 log2(variance / D) of a single one.

    Of several, by reverse water-filling: every component keeps an error of min(level, its variance), which sum to D.

    Raises:
        DataError: a variance that is negative, or a distortion that is not positive.
    """
    sizes_C = np.atleast_1d(np.asarray(variance_C, np.float64))
    if sizes_C.size == 0 or not np.isfinite(sizes_C).all() or (sizes_C < 0).any() or not distortion > 0:
        raise DataError(f"variances are finite and not negative, a distortion is positive: got {sizes_C}, {distortion}")
    if distortion >= sizes_C.sum():
        return 0.0
    level = _water_level(np.sort(sizes_C), distortion)
    return float(0.5 * np.log2(np.maximum(sizes_C / level, 1.0)).sum())


def binary_rate(p: float, distortion: float) -> float:
    """R(D) of a coin that shows 1 with probability p, by the share of wrong bits: H(p) - H(D); 0 from min(p, 1 - p).

    Raises:
        DataError: p or the distortion is no probability.
    """
    if not (0 <= p <= 1 and 0 <= distortion <= 1):
        raise DataError(f"p and the distortion are shares between 0 and 1: got {p} and {distortion}")
    if distortion >= min(p, 1 - p):
        return 0.0
    return entropy([p, 1 - p]) - entropy([distortion, 1 - distortion])


def _water_level(sizes_C: Floats, distortion: float) -> float:
    """The level whose min(level, size) sum to the distortion; sizes ascend."""
    below = np.concatenate(([0.0], np.cumsum(sizes_C)))
    for covered in range(len(sizes_C)):
        level = (distortion - below[covered]) / (len(sizes_C) - covered)
        if level <= sizes_C[covered]:
            return float(level)
    raise AssertionError("a distortion below the sum of the variances has a level")


def _distortions(distortion_XY: Any, rows: int) -> Floats:
    table_XY = np.asarray(distortion_XY, np.float64)
    if table_XY.ndim != 2 or len(table_XY) != rows or table_XY.shape[1] == 0:
        raise DataError(f"distortions of {rows} symbols are a table of {rows} rows; got the shape {table_XY.shape}")
    if not np.isfinite(table_XY).all() or (table_XY < 0).any():
        raise DataError("distortions are finite and not negative")
    return table_XY
