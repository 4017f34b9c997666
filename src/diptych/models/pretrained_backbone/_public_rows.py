"""Conversations as the tensors that a model of `transformers` takes, one by one and side by side.

B rows, T tokens. Other tensors are a picture's, whose first axis runs over pictures, tiles or patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.losses import IGNORED
from diptych.data.batches.row_batch import RowBatch

TOKENS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""Tensors [1, T] of a row; padding is 0 in all but the first."""


class Row(NamedTuple):
    """A conversation.

    Attributes:
        inputs: by the names of the model's `forward`.
        labels_1T: what is learned: the token itself where the assistant says it, IGNORED elsewhere.
    """

    inputs: Mapping[str, Tensor]
    labels_1T: Tensor

    @property
    def length(self) -> int:
        """T."""
        return self.inputs["input_ids"].shape[1]


class Joined(NamedTuple):
    """Rows side by side.

    Attributes:
        inputs: by the names of the model's `forward`.
        labels_BT: of the token itself, not of the next one.
    """

    inputs: dict[str, Tensor]
    labels_BT: Tensor


@dataclass(frozen=True)
class PublicBatch(RowBatch):
    """Conversations, put side by side when they are read."""

    rows: tuple[Row, ...]

    def to(self, device: torch.device) -> Self:
        """Copies to a device; without waiting where the memory is pinned."""
        return replace(self, rows=tuple(_moved(row, device) for row in self.rows))


def joined(rows: Sequence[Row], pad_id: int, left: bool = False) -> Joined:
    """Rows as one input, as the library's processors would pad them: tokens by `pad_id`, pictures by zeros.

    Args:
        left: whether tokens are padded at the left, for rows that are to go on, and not at the right.
    """
    longest = max(row.length for row in rows)
    names = dict.fromkeys(name for row in rows for name in row.inputs)
    inputs = {}
    for name in names:
        parts = [row.inputs[name] for row in rows if name in row.inputs]
        if name in TOKENS:
            value = pad_id if name == "input_ids" else 0
            inputs[name] = torch.cat([_padded(part, longest, left, value) for part in parts])
        else:
            inputs[name] = _stacked(parts)
    return Joined(inputs, torch.cat([_padded(row.labels_1T, longest, left, IGNORED) for row in rows]))


def _padded(part_1T: Tensor, length: int, left: bool, value: int) -> Tensor:
    room = length - part_1T.shape[1]
    return F.pad(part_1T, (room, 0) if left else (0, room), value=value)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Along the first axis; shorter ones are filled with zeros along the others (tiles, pictures of a row, pixels)."""
    most = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    filled = []
    for part in parts:
        rooms = [(0, full - size) for size, full in zip(part.shape[1:], most, strict=True)]
        filled.append(F.pad(part, [end for room in reversed(rooms) for end in room]))
    return torch.cat(filled)


def _moved(row: Row, device: torch.device) -> Row:
    inputs = {name: one.to(device, non_blocking=True) for name, one in row.inputs.items()}
    return Row(inputs, row.labels_1T.to(device, non_blocking=True))
