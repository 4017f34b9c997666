"""Entropy and mutual information of discrete distributions that are known in full, in bits.

A distribution is an array of probabilities that sum to 1; of a joint one, rows are X and columns are Y. Cover and
Thomas, Elements of Information Theory, chapter 2: H(X) = -sum_x p(x) log2 p(x), and I(X; Y) = H(X) + H(Y) - H(X, Y).

X, Y sizes of the alphabets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from diptych.core.errors import DataError

Floats = NDArray[np.float64]
TOLERANCE = 1e-6
"""How far a sum may be from 1: float32 tables of a million cells pass, a forgotten normalisation does not."""


def entropy(p: Any) -> float:
    """H of a distribution of any shape: a joint one's is the joint entropy H(X, Y)."""
    return _entropy(probabilities(p))


def conditional_entropy(joint_XY: Any) -> float:
    """H(Y | X) = H(X, Y) - H(X): what is left to know of the column when the row is known."""
    joint_XY = _joint(joint_XY)
    return max(_entropy(joint_XY) - _entropy(joint_XY.sum(1)), 0.0)


def mutual_information(joint_XY: Any) -> float:
    """I(X; Y) = sum p(x, y) log2 (p(x, y) / (p(x) p(y))); 0 when the two are independent."""
    joint_XY = _joint(joint_XY)
    x, y = np.nonzero(joint_XY)
    row_X, column_Y = joint_XY.sum(1), joint_XY.sum(0)
    log_ratio = np.log2(joint_XY[x, y]) - np.log2(row_X[x]) - np.log2(column_Y[y])
    return max(float((joint_XY[x, y] * log_ratio).sum()), 0.0)


def through_channel(p_X: Any, channel_XY: Any) -> Floats:
    """The joint [X, Y] of a source and of what a channel with rows p(y | x) makes of it.

    Raises:
        DataError: rows that do not sum to 1, or not one for each symbol of the source.
    """
    p_X = probabilities(p_X)
    joint_XY: Floats = p_X[:, None] * channel(channel_XY, len(p_X))
    return joint_XY


def channel(channel_XY: Any, rows: int | None = None) -> Floats:
    """A table of p(y | x), checked.

    Args:
        rows: how many symbols go in, where that is known.

    Raises:
        DataError: not a table, another number of rows, or a row that is not a distribution.
    """
    table_XY = _numbers(channel_XY)
    if table_XY.ndim != 2 or table_XY.size == 0 or (rows is not None and len(table_XY) != rows):
        symbols = "one for each symbol" if rows is None else f"{rows}"
        raise DataError(f"a channel has rows p(y | x), {symbols}; got a table of the shape {table_XY.shape}")
    for index, row_Y in enumerate(table_XY):
        probabilities(row_Y, f"row {index} of the channel")
    return table_XY


def probabilities(p: Any, what: str = "the distribution") -> Floats:
    """The array in float64, checked.

    Args:
        p: an array, a tensor on the CPU or nested lists.
        what: its name in the error.

    Raises:
        DataError: empty, negative, not finite, or a sum that is not 1.
    """
    array = _numbers(p)
    if array.size == 0:
        raise DataError(f"{what} is empty: give at least one probability")
    if not np.isfinite(array).all() or (array < 0).any():
        raise DataError(f"{what} holds a number that is negative or not finite: probabilities lie in [0, 1]")
    if abs(float(array.sum()) - 1) > TOLERANCE:
        raise DataError(f"{what} sums to {array.sum():.6g}, not to 1: divide counts by their sum")
    return array


def _numbers(values: Any) -> Floats:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"not a table of probabilities: {error}") from error


def _joint(joint_XY: Any) -> Floats:
    array = probabilities(joint_XY, "the joint distribution")
    if array.ndim != 2:
        raise DataError(f"a joint distribution of two variables is a table [X, Y]; got the shape {array.shape}")
    return array


def _entropy(p: Floats) -> float:
    return max(-float(xlogy(p, p).sum()) / float(np.log(2)), 0.0)
