"""ANLS: how much of a written answer is right, letter by letter (Biten et al. 2019, arXiv 1905.13648)."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.core.errors import DataError

THRESHOLD = 0.5


def edit_distance(first: str, second: str) -> int:
    """Levenshtein's: the fewest letters to insert, delete or replace."""
    row = list(range(len(second) + 1))
    for place, letter in enumerate(first, 1):
        diagonal, row[0] = row[0], place
        for other_place, other in enumerate(second, 1):
            best = min(row[other_place] + 1, row[other_place - 1] + 1, diagonal + (letter != other))
            diagonal, row[other_place] = row[other_place], best
    return row[-1]


def anls(answer: str, references: Sequence[str], threshold: float = THRESHOLD) -> float:
    """1 - distance / longer length to the nearest reference; 0 where that distance is `threshold` or more.

    Capitals and spaces at the ends do not count; spaces within are one each.

    Raises:
        DataError: there is no reference.
    """
    if not references:
        raise DataError("a question without a single reference answer cannot be scored")
    return max(_similarity(_plain(answer), _plain(one), threshold) for one in references)


def _similarity(answer: str, reference: str, threshold: float) -> float:
    longer = max(len(answer), len(reference))
    distance = edit_distance(answer, reference) / longer if longer else 0.0
    return 1 - distance if distance < threshold else 0.0


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
