"""Relaxed accuracy: a number is right within five per cent, a word as it stands (Masry et al. 2022, arXiv 2203.10244).

The published rule for answers about charts: a per cent sign divides by a hundred; a true zero, and what is no number on
either side, must be the same in small letters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from diptych.core.errors import DataError

TOLERANCE = 0.05


def relaxed_accuracy(answer: str, references: Sequence[str], tolerance: float = TOLERANCE) -> float:
    """1 where the answer is right by one of the references, else 0.

    Raises:
        DataError: there is no reference.
    """
    if not references:
        raise DataError("a question without a single reference answer cannot be scored")
    return float(any(_right(answer, one, tolerance) for one in references))


def _right(answer: str, reference: str, tolerance: float) -> bool:
    said, true = _number(answer), _number(reference)
    if said is not None and true:
        return abs(said - true) <= tolerance * abs(true) + 1e-12
    return answer.strip().lower() == reference.strip().lower()


def _number(text: str) -> float | None:
    plain = text.strip()
    try:
        found = float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
