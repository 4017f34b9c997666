"""How samples become a task's own batch, in threads, without fresh allocations.

A processor declares the fixed-size arrays of one sample (`layout`). The loader preallocates them for a whole batch,
and its threads call `prepare`, which writes one row and returns whatever has no fixed size. `collate` then builds the
task's batch from the filled arrays and these items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray
from torch import Tensor

from diptych.core.errors import DataError
from diptych.core.sample import Sample
from diptych.core.seeding import Draw


@dataclass(frozen=True)
class Field:
    """A fixed-size array of one sample: its shape and numpy dtype name."""

    shape: tuple[int, ...]
    dtype: str = "uint8"


Rows = Mapping[str, NDArray[Any]]
"""One sample's writable row of each field of the layout."""


class BadSample(DataError):
    """A sample that cannot be used; the loader counts it by `reason`, logs its key and goes on.

    Attributes:
        reason: a short stable name to count by ("truncated image", "no caption").
    """

    def __init__(self, key: str, reason: str, detail: str = "") -> None:
        self.key = key
        self.reason = reason
        self.detail = detail
        super().__init__(f"{key}: {reason}" + (f" ({detail})" if detail else ""))


BatchCo = TypeVar("BatchCo", covariant=True)


class Processor(Protocol[BatchCo]):
    """Sample -> row -> batch. `prepare` runs in threads: it keeps no state and draws only from `draw`."""

    def layout(self) -> Mapping[str, Field]:
        """Names and shapes of the fixed-size arrays of one sample."""
        ...

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> Any:
        """Fills `rows` and returns the sample's variable-size rest.

        Args:
            draw: the sample's random choices; None for evaluation, which is deterministic.

        Raises:
            BadSample: with the key, the reason and the numbers.
        """
        ...

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[Any]) -> BatchCo:
        """The batch of the samples `keys`; `arrays[name]` is [B, *layout[name].shape]."""
        ...
