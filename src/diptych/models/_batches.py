"""What predictors are given, in runs that fit their memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def batches(items: Any, size: int) -> Iterator[Any]:
    """Runs of at most `size`, of anything that has a length and slices: lists and tensors."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
