"""Every sample once, in order, for evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from diptych.core.errors import DataError
from diptych.core.processor import Processor
from diptych.core.source import Source
from diptych.data.loading.buffers import BufferPool
from diptych.data.loading.order import Position, Slice
from diptych.data.loading.pending_batch import PendingBatch, collated, submit
from diptych.data.loading.row_filler import Bad, Filler
from diptych.data.loading.stats import BadPolicy, LoaderStats

BatchT = TypeVar("BatchT")

_PREFETCH = 2


class EvaluationBatches(Generic[BatchT]):
    """Finite, repeatable batches.

    Attributes:
        bad: what was left out in the last pass.
        stats: counts and seconds of the last pass.
    """

    def __init__(
        self, source: Source, processor: Processor[BatchT], batch_size: int, threads: int, bad_threshold: float
    ) -> None:
        if len(source) == 0:
            raise DataError(f"{source.name} has no samples")
        self._source, self._processor = source, processor
        self._batch_size = min(batch_size, len(source))
        self._threads = max(threads, 1)
        self._policy = BadPolicy(bad_threshold)
        self.bad: list[Bad] = []
        self.stats = LoaderStats()

    def __len__(self) -> int:
        """Batches in a pass when no sample is bad."""
        return -(-len(self._source) // self._batch_size)

    def __iter__(self) -> Iterator[BatchT]:
        """A pass over the data.

        Raises:
            DataError: too many bad samples.
        """
        self.bad, self.stats = [], LoaderStats()
        filler = Filler(self._source, self._processor, seed=None, replace=False)
        pool = BufferPool(self._processor.layout(), self._batch_size)
        threads = ThreadPoolExecutor(self._threads, "evaluation", initializer=torch.set_num_threads, initargs=(1,))
        pending: deque[PendingBatch] = deque()
        try:
            for begin in range(0, len(self._source), self._batch_size):
                share = self._slice(begin)
                pending.append(submit(threads, filler, pool.take(), share))
                if len(pending) > _PREFETCH:
                    yield from self._finish(pending.popleft())
            while pending:
                yield from self._finish(pending.popleft())
            self._policy.check(self.stats, self._source)
        finally:
            filler.stop.set()
            threads.shutdown(wait=True, cancel_futures=True)

    def _slice(self, begin: int) -> Slice:
        indices = tuple(range(begin, min(begin + self._batch_size, len(self._source))))
        return Slice(indices, (0,) * len(indices), Position(0, begin + len(indices)))

    def _finish(self, work: PendingBatch) -> Iterator[BatchT]:
        parts = work.parts()
        self.stats.add(parts)
        self.bad += [one for part in parts for one in part.bad]
        if any(part.rows for part in parts):
            yield collated(self._processor, work.arrays, parts)
