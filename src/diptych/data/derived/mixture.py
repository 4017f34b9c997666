"""Several sources in given shares, as one source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diptych.core.errors import ConfigError, DataError
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int, permutation
from diptych.core.source import Source


class Mixture:
    """A virtual epoch in which each source has its share, exact to one sample in every prefix.

    A source that is asked for more than it has is gone through again in another order; its samples then carry a number
    after their key. Keys are prefixed with the source's place where two sources share one.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float], length: int = 0, seed: int = 0) -> None:
        if len(sources) != len(weights) or not sources:
            raise ConfigError(
                f"a mixture needs one weight a source: got {len(sources)} sources, {len(weights)} weights"
            )
        if not all(0 < weight < math.inf for weight in weights):
            raise ConfigError(f"the weights of a mixture must be positive numbers, got {list(weights)}")
        if empty := [source.name for source in sources if len(source) == 0]:
            raise DataError(f"{empty[0]} has no samples to mix")
        self._sources, self._seed = list(sources), seed
        self._shares = [weight / sum(weights) for weight in weights]
        self._length = length or sum(len(source) for source in sources)
        self._which, self._turn = _interleaved(np.array(self._shares, np.float64), self._length)
        self.name = " + ".join(f"{share:.0%} {s.name}" for share, s in zip(self._shares, sources, strict=True))
        self._orders: dict[tuple[int, int], np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        keys = [key for source in sources for key in source.keys()]
        self._prefix = len(set(keys)) < len(keys)

    @property
    def sources(self) -> Sequence[Source]:
        """What is mixed."""
        return self._sources

    def __len__(self) -> int:
        return self._length

    def _place(self, index: int) -> tuple[int, int, int]:
        """Which source, which position in it, and in which round through it."""
        which, turn = int(self._which[index]), int(self._turn[index])
        size = len(self._sources[which])
        around, at = divmod(turn, size)
        order = self._orders.get((which, around))
        if order is None:
            order = self._orders[which, around] = permutation(size, hash_to_int(self._seed, which), around)
        return which, int(order[at]), around

    def _key(self, which: int, key: str, around: int) -> str:
        head = f"{which}/{key}" if self._prefix else key
        return f"{head}#{around}" if around else head

    def __getitem__(self, index: int) -> Sample:
        which, position, around = self._place(index)
        sample = self._sources[which][position]
        return replace(sample, key=self._key(which, sample.key, around))

    def keys(self) -> Sequence[str]:
        own = [source.keys() for source in self._sources]
        places = (self._place(index) for index in range(self._length))
        return [self._key(which, own[which][position], around) for which, position, around in places]

    def fingerprint(self) -> str:
        parts = [source.fingerprint() for source in self._sources]
        return f"{hash_to_int(*parts, *map(repr, self._shares), self._length, self._seed):016x}"


def _interleaved(
    shares: np.ndarray[tuple[int], np.dtype[np.float64]], length: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """For every position the source that is furthest behind its share, and that source's turn."""
    which = np.empty(length, np.int64)
    turn = np.empty(length, np.int64)
    taken = np.zeros(len(shares), np.int64)
    for position in range(length):
        source = int(np.argmax(shares * (position + 1) - taken))
        which[position], turn[position] = source, taken[source]
        taken[source] += 1
    return which, turn
