"""Several short sequences in one row, each as if it were alone: less is computed on padding.

Sequences are put into rows in their order, each into the first row that has room (first fit). A token sees those of its
own sequence that are not after it, and its place is counted from where its sequence begins.

B sequences, T tokens of the longest, R rows, L tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.core.errors import ConfigError


@dataclass(frozen=True)
class Packing:
    """Where every token stands.

    Attributes:
        source_RL: int64: its number among the B * T that there were; that of the first on padding.
        sequence_RL: int64: which sequence it is of; -1 on padding.
        places_RL: int64: its place in its sequence; 0 on padding.
    """

    source_RL: Tensor
    sequence_RL: Tensor
    places_RL: Tensor

    def gather(self, x_BT: Tensor) -> Tensor:
        """[B, T, ...] as [R, L, ...]; anything on padding."""
        out: Tensor = x_BT.flatten(0, 1)[self.source_RL]
        return out

    def labels(self, labels_BT: Tensor, ignored: int) -> Tensor:
        """As `gather`, with `ignored` on padding."""
        return self.gather(labels_BT).masked_fill(self.sequence_RL < 0, ignored)

    def mask(self) -> Tensor:
        """bool [R, L, L]: True where a token may look.

        Padding looks at padding: nothing reads it, but a token that sees none has no softmax.
        """
        same_RLL = self.sequence_RL[:, :, None] == self.sequence_RL[:, None, :]
        return same_RLL.tril()


def pack(lengths: Sequence[int], longest: int, room: int, device: torch.device) -> Packing:
    """Puts sequences, padded to `longest` at the right, into rows of at most `room` tokens.

    Raises:
        ConfigError: a sequence is longer than a row.
    """
    rows = first_fit(lengths, room)
    width = max((sum(lengths[one] for one in row) for row in rows), default=0)
    source, sequence, places = (torch.full((len(rows), width), fill) for fill in (0, -1, 0))
    for number, row in enumerate(rows):
        at = 0
        for one in row:
            end = at + lengths[one]
            own_T = torch.arange(lengths[one])
            source[number, at:end], sequence[number, at:end], places[number, at:end] = own_T + one * longest, one, own_T
            at = end
    return Packing(source.to(device), sequence.to(device), places.to(device))


def first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Rows of the positions of sequences.

    Raises:
        ConfigError: a sequence is longer than a row.
    """
    rows: list[list[int]] = []
    left: list[int] = []
    for one, length in enumerate(lengths):
        if length > room:
            raise ConfigError(f"a conversation of {length} tokens does not fit rows of {room}: give longer ones")
        row = next((number for number, free in enumerate(left) if free >= length), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(one)
        left[row] -= length
    return rows
