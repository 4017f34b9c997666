"""Batch arrays that are used again as soon as nobody looks at them.

Fresh memory of a batch's size costs a page fault every 4 KiB, which at these rates is a large part of the work. A
tensor made by `torch.from_numpy` keeps a reference to its array for as long as it or any view of it lives, so the
array's reference count says whether a batch is still held anywhere; one that is held is never written to.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.core.processor import Field

Arrays = dict[str, NDArray[Any]]


class BufferPool:
    """Arrays for whole batches; not thread-safe, used by the thread that plans the batches.

    Args:
        layout: the arrays of one sample.
        rows: samples in a batch.
        pinned: in page-locked memory, for fast copies to a CUDA device.
    """

    def __init__(self, layout: Mapping[str, Field], rows: int, pinned: bool = False) -> None:
        self._layout = layout
        self._rows = rows
        self._pinned = pinned
        self._buffers: list[Arrays] = []

    def __len__(self) -> int:
        """How many there are, free or not."""
        return len(self._buffers)

    def take(self) -> Arrays:
        """Arrays [rows, *shape] that nobody else holds, with whatever values were left in them."""
        for buffer in self._buffers:
            if _is_free(buffer):
                return dict(buffer)
        self._buffers.append({name: self._new(field) for name, field in self._layout.items()})
        return dict(self._buffers[-1])

    def _new(self, field: Field) -> NDArray[Any]:
        shape = (self._rows, *field.shape)
        if not self._pinned:
            return np.empty(shape, field.dtype)
        kind = torch.from_numpy(np.empty(0, field.dtype)).dtype
        pinned: NDArray[Any] = torch.empty(shape, dtype=kind, pin_memory=True).numpy()
        return pinned


def _references(buffer: Arrays, name: str) -> int:
    return sys.getrefcount(buffer[name])


_ALONE = _references({"": np.empty(0)}, "")
"""The count of an array that only its buffer refers to, as `_references` sees it."""


def _is_free(buffer: Arrays) -> bool:
    return all(_references(buffer, name) == _ALONE for name in buffer)
