"""How samples become a task's own batch, in threads, without fresh allocations.

A processor declares the fixed-size arrays of one sample (`layout`). The loader preallocates them for a whole batch,
and its threads call `prepare`, which writes one row and returns whatever has no fixed size. `collate` then builds the
task's batch from the filled arrays and these items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor

from diptych.core.errors import DataError
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Pixels


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


class TokenCount(NamedTuple):
    """How much of a row of tokens is text.

    Attributes:
        used: tokens that are not padding, control tokens included.
        padded: length of the row in the batch.
        limit: the longest row there can be; a text of so many tokens was cut off, unless it fits exactly.
    """

    used: int
    padded: int
    limit: int


class Preview(NamedTuple):
    """One sample of a batch as the model sees it, for people to look at.

    Attributes:
        key: of the sample.
        picture_HWC: the view that the model is given, before it is normalised; None where it is given features.
        text: the caption decoded back from its tokens, or the name of the class; "" where there is neither.
        tokens: of the caption; None where the text is no row of tokens.
    """

    key: str
    picture_HWC: Pixels | None
    text: str
    tokens: TokenCount | None


BatchContra = TypeVar("BatchContra", contravariant=True)


@runtime_checkable
class Previewing(Protocol[BatchContra]):
    """What a processor may add so that `diptych check` can show its batches."""

    def preview(self, batch: BatchContra) -> list[Preview]:
        """Every sample of a batch on the CPU."""
        ...
