"""What the losses over all pairs of a batch share: they look at a strip of rows against all columns at a time.

So the matrix of all pairs is never held, and memory grows linearly with the batch.

N rows, M columns, S rows of a strip, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

STRIP = 2**22
"""Pairs in a strip: 16 MB of fp32, large enough for products of matrices to run at full speed."""
_FEWEST_ROWS = 64


def strips(rows: int, columns: int) -> Iterator[slice]:
    """Runs of rows that cover all of them in order, of about STRIP pairs each."""
    height = max(STRIP // max(columns, 1), min(_FEWEST_ROWS, STRIP))
    return (slice(begin, min(begin + height, rows)) for begin in range(0, rows, height))


def exactly(*tensors: Tensor) -> list[Tensor]:
    """All in one type, fp32 at least, and on the device of the first."""
    exact = torch.float32
    for tensor in tensors:
        exact = torch.promote_types(exact, tensor.dtype)
    return [tensor.to(tensors[0].device, exact) for tensor in tensors]


def unrounded(tensor: Tensor) -> AbstractContextManager[object]:
    """A region in which autocast does not round the products of matrices."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def with_negatives(text_ND: Tensor, negative_MD: Tensor | None, wanted_M: Tensor | None) -> Tensor:
    """The columns of a loss: the texts, then those negatives that are wanted."""
    if negative_MD is None:
        return text_ND
    return torch.cat([text_ND, negative_MD if wanted_M is None else negative_MD[wanted_M]])
