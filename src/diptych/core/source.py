"""What every source of data offers: random access by position, and keys that never change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from diptych.core.sample import Sample


class Source(Protocol):
    """A finite collection of samples with random access. Thread-safe reads."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """The sample at a position; visuals stay encoded.

        Raises:
            BadSample: the record cannot be read.
        """
        ...

    def keys(self) -> Sequence[str]:
        """Every key, by position, without reading the samples."""
        ...

    def fingerprint(self) -> str:
        """A hash that changes when the data does: names caches and guards resumption."""
        ...
