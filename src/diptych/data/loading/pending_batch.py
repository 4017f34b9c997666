"""A batch in the making: its rows handed to threads, its parts put together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import torch

from diptych.core.processor import Processor
from diptych.data.loading.buffers import Arrays
from diptych.data.loading.order import Position, Slice
from diptych.data.loading.row_filler import Filled, Filler

BatchT = TypeVar("BatchT")

_CHUNK = 16
"""Rows that a thread fills in one go: enough to make the hand-over free, few enough to keep all threads busy."""


@dataclass(frozen=True)
class PendingBatch:
    """A batch in the making.

    Attributes:
        arrays: the rows.
        chunks: the threads' promises, in row order.
        after: where the global batch ends.
    """

    arrays: Arrays
    chunks: tuple[Future[Filled], ...]
    after: Position

    def parts(self) -> list[Filled]:
        """Waits for the threads; raises what the first of them raised."""
        return [chunk.result() for chunk in self.chunks]

    def cancel(self) -> None:
        """Waits until no thread writes to the rows any more."""
        wait([chunk for chunk in self.chunks if not chunk.cancel()])


def submit(threads: ThreadPoolExecutor, filler: Filler, arrays: Arrays, share: Slice) -> PendingBatch:
    """Hands the rows of a batch to threads, a few at a time."""
    chunks = tuple(
        threads.submit(filler.fill, arrays, at, share.indices[at : at + _CHUNK], share.epochs[at : at + _CHUNK])
        for at in range(0, len(share.indices), _CHUNK)
    )
    return PendingBatch(arrays, chunks, share.after)


def collated(processor: Processor[BatchT], arrays: Arrays, parts: Sequence[Filled]) -> BatchT:
    """The batch of what the threads made; rows that were left out are closed up."""
    rows = [row for part in parts for row in part.rows]
    keys = tuple(key for part in parts for key in part.keys)
    items = [item for part in parts for item in part.items]
    count = len(rows)
    if rows == list(range(count)):
        tensors = {name: torch.from_numpy(array)[:count] for name, array in arrays.items()}
    else:
        tensors = {name: torch.from_numpy(array[rows]) for name, array in arrays.items()}
    return processor.collate(keys, tensors, items)
