"""What batches share: every field has a row a sample, so they are moved and cut alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowBatch:
    """A batch whose fields are rows: tensors [B, ...], tuples of B values, named tuples of such tensors, or None.

    A batch with a field of another shape says in `part` how it is cut, and in `to` how it is moved.

    Attributes:
        keys: of the samples.
    """

    keys: tuple[str, ...]

    @property
    def num_samples(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Self:
        """Copies to a device; without waiting where the memory is pinned."""
        return self._with(lambda value: on_device(value, device))

    def split(self, n: int) -> Sequence[Self]:
        """Micro-batches of at most `n` samples, in order, views of the same memory; each padded as the whole is."""
        return [self.part(begin, begin + n) for begin in range(0, self.num_samples, n)]

    def part(self, begin: int, end: int) -> Self:
        """The samples from `begin` to before `end`."""
        return self._with(lambda value: cut(value, begin, end))

    def _with(self, change: Callable[[Any], Any]) -> Self:
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})


def on_device(value: Any, device: torch.device) -> Any:
    """A field's tensors on a device; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return _each(value, lambda part: on_device(part, device)) if _is_named(value) else value


def cut(value: Any, begin: int, end: int) -> Any:
    """Rows of a field."""
    if value is None:
        return None
    return _each(value, lambda part: cut(part, begin, end)) if _is_named(value) else value[begin:end]


def _is_named(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _each(named: Any, change: Callable[[Any], Any]) -> Any:
    return type(named)(*map(change, named))
