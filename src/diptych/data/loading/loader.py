"""Batches without end, made by threads in memory that is used again.

Threads, not processes: decoding and resizing release the interpreter lock, and rows are written where the batch lies,
so nothing is copied between workers and consumer. Order, draws and the replacement of bad samples depend on seed and
data alone (order.py,.row_filler.py): any number of threads or ranks gives the same samples and pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import torch

from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import Processor
from diptych.core.source import Source
from diptych.data.loading.buffers import BufferPool
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.loading.order import Order, Position
from diptych.data.loading.pending_batch import PendingBatch, collated, submit
from diptych.data.loading.row_filler import Filled, Filler
from diptych.data.loading.stats import BadPolicy, LoaderStats
from diptych.distributed.world import World

BatchT = TypeVar("BatchT")


class Loader(Generic[BatchT]):
    """An endless iterator over training batches.

    Args:
        source: where samples come from.
        processor: makes a row of a sample and a batch of rows.
        batch_size: of the global batch; each rank gets its contiguous share, which may differ by one.
        seed: of order and draws.
        shuffle: whether every epoch has an order of its own; otherwise samples come as they lie.
        threads: workers; more than there are cores does not help.
        prefetch: batches made ahead of the consumer.
        training: whether samples get random draws; False prepares them as for evaluation.
        world: this process among all.
        bad_threshold: the share of bad samples above which iteration stops with a DataError.
        bad_log: a JSONL file for the keys of bad samples.
        pin_memory: whether arrays lie in page-locked memory; None: when CUDA is in use.

    Raises:
        DataError: the source is empty.
        ConfigError: there are fewer samples in a batch than ranks.
    """

    def __init__(
        self,
        source: Source,
        processor: Processor[BatchT],
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        threads: int = 2,
        prefetch: int = 2,
        training: bool = True,
        world: World | None = None,
        bad_threshold: float = 0.05,
        bad_log: Path | None = None,
        pin_memory: bool | None = None,
    ) -> None:
        world = world or World()
        if len(source) == 0:
            raise DataError(f"{source.name} has no samples")
        if batch_size < world.size:
            raise ConfigError(f"batch_size {batch_size} is smaller than the number of processes, {world.size}")
        self.stats = LoaderStats()
        self._source, self._processor = source, processor
        self._batch_size, self._seed, self._shuffle, self._world = batch_size, seed, shuffle, world
        self._prefetch = max(prefetch, 0)
        self._policy = BadPolicy(bad_threshold, bad_log)
        self._order = Order(len(source), seed, shuffle)
        self._filler = Filler(source, processor, seed if training else None, replace=True, order_seed=seed)
        rows = len(self._order.take(Position(), batch_size).share(world).indices)
        self._pool = BufferPool(processor.layout(), rows, _pinned(pin_memory))
        self._threads = ThreadPoolExecutor(max(threads, 1), "loader", initializer=torch.set_num_threads, initargs=(1,))
        self._delivered = self._planned = Position()
        self._pending: deque[PendingBatch] = deque()
        self._closed = False

    def __iter__(self) -> Iterator[BatchT]:
        return self

    def __next__(self) -> BatchT:
        """The next batch.

        Raises:
            DataError: too many bad samples.
        """
        assert not self._closed, "the loader is closed"
        try:
            return self._next()
        except BaseException:
            self.close()
            raise

    def _next(self) -> BatchT:
        while len(self._pending) <= self._prefetch:
            self._plan()
        started = perf_counter()
        work = self._pending.popleft()
        parts = work.parts()
        self.stats.wait += perf_counter() - started
        self._delivered = work.after
        self._count(parts)
        return collated(self._processor, work.arrays, parts)

    def _plan(self) -> None:
        """Hands the next batch to the threads."""
        batch = self._order.take(self._planned, self._batch_size)
        self._planned = batch.after
        self._pending.append(submit(self._threads, self._filler, self._pool.take(), batch.share(self._world)))

    def _count(self, parts: Sequence[Filled]) -> None:
        self.stats.add(parts)
        self._policy.write([one for part in parts for one in part.bad])
        self._policy.check(self.stats, self._source)

    @property
    def buffers(self) -> int:
        """Batches that lie in memory: those made ahead, the one that is asked for, and the one held meanwhile."""
        return self._prefetch + 2

    def state_dict(self) -> dict[str, Any]:
        """Plain values: where the next batch starts, what was delivered, and whose data it was."""
        return {
            "epoch": self._delivered.epoch,
            "offset": self._delivered.offset,
            "seed": self._seed,
            "shuffle": self._shuffle,
            "fingerprint": self._source.fingerprint(),
            "samples": self.stats.samples,
            "bad": dict(self.stats.bad),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken, exact to the sample; ranks, threads and batch size may differ.

        Raises:
            DataError: the data, the seed or the shuffling are not those of the state.
        """
        mine = self.state_dict()
        for name, what in (("fingerprint", "the data"), ("seed", "the seed"), ("shuffle", "the shuffling")):
            if state[name] != mine[name]:
                raise DataError(
                    f"{self._source.name}: cannot continue in the middle of an epoch, {what} changed "
                    f"({state[name]} when saved, {mine[name]} now): restore it, or start a new run"
                )
        self._cancel()
        self._delivered = self._planned = Position(int(state["epoch"]), int(state["offset"]))
        self.stats = LoaderStats(samples=int(state["samples"]), bad=dict(state["bad"]))

    def _cancel(self) -> None:
        """Forgets what was made ahead; threads may still be writing to it, so it is waited for."""
        while self._pending:
            self._pending.popleft().cancel()

    def close(self) -> None:
        """Stops the threads; can be called again."""
        self._closed = True
        self._filler.stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def evaluation_batches(
    source: Source, processor: Processor[BatchT], batch_size: int, *, threads: int = 2, bad_threshold: float = 0.05
) -> EvaluationBatches[BatchT]:
    """Every sample once, in order, without random draws; the last batch may be smaller, bad samples are left out."""
    return EvaluationBatches(source, processor, batch_size, threads, bad_threshold)


def _pinned(asked: bool | None) -> bool:
    return bool(torch.cuda.is_initialized()) if asked is None else asked  # type: ignore[no-untyped-call]
