"""Where the right answer ranks, strictly as published and with ties broken fairly.

Strict: a tie with a wrong answer counts against, so a constant model scores zero. Expected: the exact expectation over
all orders of the tied, so a constant model scores chance.

N queries, M candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranking:
    """For each of N queries.

    Attributes:
        above_N: wrong candidates that score higher than the best right one.
        tied_N: wrong candidates that score the same.
        right_N: right candidates with that best score.
    """

    above_N: NDArray[np.int64]
    tied_N: NDArray[np.int64]
    right_N: NDArray[np.int64]

    def strict(self, k: int) -> NDArray[np.float64]:
        """1 where a right candidate is among the first k whatever the order of the tied."""
        return (self.above_N + self.tied_N < k).astype(np.float64)

    def expected(self, k: int) -> NDArray[np.float64]:
        """The probability that a right candidate is among the first k when the tied are put in random order."""
        rows = zip(self.above_N.tolist(), self.tied_N.tolist(), self.right_N.tolist(), strict=True)
        return np.array([_chance_in_first(k - above, tied, right) for above, tied, right in rows])

    @property
    def tie_rate(self) -> float:
        """Share of queries whose best right candidate ties with a wrong one."""
        return float((self.tied_N > 0).mean()) if len(self.tied_N) else 0.0

    def rank(self) -> NDArray[np.int64]:
        """The rank of the best right candidate, from 1, ties against it."""
        return self.above_N + self.tied_N + 1


def _chance_in_first(places: int, tied: int, right: int) -> float:
    """Whether one of `right` is drawn in `places` draws without replacement from right + tied."""
    everyone = tied + right
    if places <= 0:
        return 0.0
    if places > tied:
        return 1.0
    return 1.0 - comb(tied, places) / comb(everyone, places)


def ranking(scores_NM: NDArray[np.float32], right_NM: NDArray[np.bool_]) -> Ranking:
    """Ranks from scores, and which candidates are right for which query."""
    best_N = np.where(right_NM, scores_NM, -np.inf).max(1, keepdims=True)
    wrong_NM = ~right_NM
    return Ranking(
        ((scores_NM > best_N) & wrong_NM).sum(1),
        ((scores_NM == best_N) & wrong_NM).sum(1),
        ((scores_NM == best_N) & right_NM).sum(1),
    )


def chance_at(k: int, candidates: int, right: int) -> float:
    """What an uninformed model gets: the chance that k of the candidates include one of the right ones."""
    return _chance_in_first(k, candidates - right, right)
