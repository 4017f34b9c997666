"""Which of two or more is scored higher: strictly, and with ties broken fairly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product


def strict_win(right: float, wrong: Sequence[float]) -> float:
    """1 when the right one scores strictly higher than all others."""
    return float(all(right > other for other in wrong))


def expected_win(right: float, wrong: Sequence[float]) -> float:
    """The probability that the right one comes first when ties are broken at random: 1 / (1 + ties)."""
    if any(other > right for other in wrong):
        return 0.0
    return 1.0 / (1 + sum(other == right for other in wrong))


def winoground(scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Text, image and group score of one pair (Thrush et al. 2022, arXiv 2204.03162, section 3.2), strict.

    Args:
        scores: [[s(C0, I0), s(C0, I1)], [s(C1, I0), s(C1, I1)]], rows are captions.
    """
    (a, b), (c, d) = scores
    text = a > c and d > b
    image = a > b and d > c
    return {"text": float(text), "image": float(image), "group": float(text and image)}


def winoground_expected(scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """The same with ties broken at random: the mean over all 24 orders of the four scores that respect them.

    For a constant model that is 1/4, 1/4 and 1/6: chance, as for four independent continuous scores.
    """
    flat = [scores[0][0], scores[0][1], scores[1][0], scores[1][1]]
    totals = {"text": 0.0, "image": 0.0, "group": 0.0}
    orders = 0
    for ranks in _orders(flat):
        orders += 1
        for name, value in winoground([ranks[:2], ranks[2:]]).items():
            totals[name] += value
    return {name: value / orders for name, value in totals.items()}


def _orders(values: Sequence[float]) -> list[list[float]]:
    """Every strict order of the values that keeps their known order."""
    found = []
    for ranks in product(range(len(values)), repeat=len(values)):
        if len(set(ranks)) < len(values):
            continue
        if all(ranks[i] < ranks[j] for i in range(len(values)) for j in range(len(values)) if values[i] < values[j]):
            found.append([float(rank) for rank in ranks])
    return found


def tied(right: float, wrong: Sequence[float]) -> float:
    """1 when the right one ties with another and none is higher."""
    return float(0 < expected_win(right, wrong) < 1)
