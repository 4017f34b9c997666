"""A confusion matrix as a table of shaded cells; of many classes, the pairs most often confused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_CLASSES = 24
MOST_PAIRS = 12


@dataclass(frozen=True)
class Cell:
    """How many of a true class were called this, and that as a share of the true class."""

    count: int
    share: float
    right: bool

    @property
    def shade(self) -> int:
        """0 to 10: which of the page's shades to use."""
        return 0 if self.count == 0 else max(1, round(10 * self.share))


@dataclass(frozen=True)
class Confused:
    """A pair of classes and how often the first was called the second."""

    truth: str
    called: str
    count: int
    share: float


@dataclass(frozen=True)
class Confusion:
    """The matrix (None of more than `MOST_CLASSES` classes) and the pairs most often confused."""

    classes: list[str]
    rows: list[list[Cell]] | None
    pairs: list[Confused]


def confusion(plain: dict[str, Any]) -> Confusion:
    """Reads {"classes": [names], "matrix": [true class][called class] counts}."""
    classes, matrix = [str(name) for name in plain["classes"]], plain["matrix"]
    rows = [_row(counts, i) for i, counts in enumerate(matrix)]
    pairs = [
        Confused(classes[i], classes[j], cell.count, cell.share)
        for i, row in enumerate(rows)
        for j, cell in enumerate(row)
        if cell.count and not cell.right
    ]
    pairs.sort(key=lambda pair: (-pair.count, pair.truth, pair.called))
    return Confusion(classes, rows if len(classes) <= MOST_CLASSES else None, pairs[:MOST_PAIRS])


def _row(counts: Sequence[int], truth: int) -> list[Cell]:
    total = sum(counts)
    return [Cell(int(n), n / total if total else 0.0, truth == called) for called, n in enumerate(counts)]
