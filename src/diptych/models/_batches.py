"""What predictors are given, in batches that fit their memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diptych.core.sampling import seeds_for


def batches(items: Any, size: int) -> Iterator[Any]:
    """At most `size` items at a time, of anything that has a length and slices: lists and tensors."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def seeded_batches(
    items: Sequence[Any], seeds: int | Sequence[int], purpose: str, size: int
) -> Iterator[tuple[Any, Sequence[int]]]:
    """`batches`, each with the seeds of its items.

    Args:
        seeds, purpose: as in `seeds_for`.

    Raises:
        ConfigError: there are more or fewer seeds than items.
    """
    drawn = seeds_for(len(items), seeds, purpose)
    return zip(batches(items, size), batches(drawn, size), strict=True)
