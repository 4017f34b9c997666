"""Which samples make the batch at a step: a function of seed and position alone, the same on every process.

Epoch e is `seeding.permutation(length, seed, e)`, cut into global batches from its start. What is left at the end and
fills no batch is dropped, another part in every epoch, so that no sample meets itself in a batch. A set smaller than
one batch cannot avoid that: there, batches run on over the boundary between epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.core.seeding import permutation
from diptych.distributed.world import World


class Position(NamedTuple):
    """How far an endless run over the data has come, in samples: it holds for any batch size and number of ranks."""

    epoch: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Slice:
    """Some samples of the stream.

    Attributes:
        indices: positions in the source.
        epochs: of each, for its draws.
        after: where the global batch that they belong to ends.
    """

    indices: tuple[int, ...]
    epochs: tuple[int, ...]
    after: Position

    def share(self, world: World) -> Slice:
        """The contiguous part of one rank; parts differ by at most one sample and make up the whole."""
        count = len(self.indices)
        begin, end = count * world.rank // world.size, count * (world.rank + 1) // world.size
        return Slice(self.indices[begin:end], self.epochs[begin:end], self.after)


class Order:
    """The stream of samples of a source of `length`, shuffled by `seed` or as it lies."""

    def __init__(self, length: int, seed: int, shuffle: bool) -> None:
        assert length > 0
        self.length = length
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = -1
        self._indices: NDArray[np.int64] = np.empty(0, np.int64)

    def take(self, at: Position, count: int) -> Slice:
        """The next `count` samples of the stream from a position on."""
        if count <= self.length and at.offset + count > self.length:
            at = Position(at.epoch + 1)
        indices: list[int] = []
        epochs: list[int] = []
        while len(indices) < count:
            piece = self._of(at.epoch)[at.offset : at.offset + count - len(indices)].tolist()
            indices += piece
            epochs += [at.epoch] * len(piece)
            end = at.offset + len(piece)
            at = Position(at.epoch, end) if end < self.length else Position(at.epoch + 1)
        return Slice(tuple(indices), tuple(epochs), at)

    def _of(self, epoch: int) -> NDArray[np.int64]:
        """One epoch's order; only the last one asked for is kept."""
        if epoch != self._epoch:
            shuffled = self._shuffle
            self._indices = permutation(self.length, self._seed, epoch) if shuffled else np.arange(self.length)
            self._epoch = epoch
        return self._indices
