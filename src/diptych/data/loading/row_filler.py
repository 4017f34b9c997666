"""The work of one thread: read samples, prepare them, fill their rows of a batch.

What happens to a bad sample is decided here: it is noted, and replaced by another that depends on seed, epoch and key
alone, or its row is left out.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from diptych.core.errors import DataError
from diptych.core.processor import BadSample, Processor
from diptych.core.seeding import Draw, hash_to_int
from diptych.core.source import Source
from diptych.data.loading.buffers import Arrays
from diptych.data.stopwatch import spent

_MOST_ATTEMPTS = 20
"""Bad samples in a row that one place in a batch puts up with."""


@dataclass(frozen=True)
class Bad:
    """A sample that could not be used."""

    key: str
    reason: str
    detail: str
    epoch: int


@dataclass
class Filled:
    """What one thread made of some rows.

    Attributes:
        rows: places in the batch that were filled.
        keys, items: of these rows: sample keys, and what `prepare` returned.
        bad: samples that could not be used, in the order they were met.
        read, decode, augment: seconds.
    """

    rows: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    read: float = 0.0
    decode: float = 0.0
    augment: float = 0.0


@dataclass(frozen=True)
class Filler:
    """Fills rows from a source.

    Attributes:
        seed: of the draws; None for evaluation, which draws nothing.
        replace: whether another sample takes the place of a bad one.
        stop: set to make running work end early.
    """

    source: Source
    processor: Processor[Any]
    seed: int | None
    replace: bool
    order_seed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def fill(self, arrays: Arrays, begin: int, indices: Sequence[int], epochs: Sequence[int]) -> Filled:
        """Fills rows `begin`, `begin + 1`, ... with the samples at `indices`.

        Raises:
            DataError: too many bad samples in a row.
        """
        filled = Filled()
        decode, augment = spent.decode, spent.augment
        for row, (index, epoch) in enumerate(zip(indices, epochs, strict=True), start=begin):
            if self.stop.is_set():
                break
            self._fill_row(filled, arrays, row, index, epoch)
        filled.decode, filled.augment = spent.decode - decode, spent.augment - augment
        return filled

    def _fill_row(self, filled: Filled, arrays: Arrays, row: int, index: int, epoch: int) -> None:
        rows = {name: array[row] for name, array in arrays.items()}
        first_key = ""
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                started = perf_counter()
                sample = self.source[index]
                filled.read += perf_counter() - started
                draw = None if self.seed is None else Draw(self.seed, epoch, sample.key)
                item = self.processor.prepare(sample, draw, rows)
            except BadSample as error:
                filled.bad.append(Bad(error.key, error.reason, error.detail, epoch))
                if not self.replace:
                    return
                first_key = first_key or error.key
                index = hash_to_int("replacement", self.order_seed, epoch, first_key, attempt) % len(self.source)
                continue
            filled.rows.append(row)
            filled.keys.append(sample.key)
            filled.items.append(item)
            return
        raise DataError(f"{self.source.name}: {_MOST_ATTEMPTS} bad samples in a row; {described(filled.bad)}")


def described(bad: Sequence[Bad], examples: int = 3) -> str:
    """Counts by reason and a few keys, for messages."""
    counts: dict[str, int] = {}
    for one in bad:
        counts[one.reason] = counts.get(one.reason, 0) + 1
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    return f"{reasons}; for example {', '.join(one.key for one in bad[:examples])}"
