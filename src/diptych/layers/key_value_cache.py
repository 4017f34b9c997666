"""Keys and values of what a causal transformer has read already.

Rows of different lengths begin at different columns and end at the same one (padding stands at the left), so that a new
token of every row goes into one column, by a copy into room that is there already.

N rows, G key heads, T new tokens, S tokens read so far and now, K head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.core.errors import DataError
from diptych.layers.rotary import Turn, turn_of


class KeyValueCache:
    """Room for a number of tokens in every layer.

    Attributes:
        length: columns that are filled.
        room: columns that there are.
    """

    def __init__(self, depth: int, room: int, starts_N: Tensor | None = None) -> None:
        """
        Args:
            starts_N: the first column of each row that is no padding; None where there is none.
        """
        self.length = 0
        self.room = room
        self._starts_N = None if starts_N is None or not bool(starts_N.any()) else starts_N
        self._turn: Turn | None = None
        self._columns: Tensor | None = None
        self._filled: list[tuple[Tensor, Tensor] | None] = [None] * depth
        self._memory: list[tuple[Tensor, Tensor] | None] = [None] * depth

    def require_room(self, tokens: int) -> None:
        """Raises DataError where so many more do not fit."""
        if self.length + tokens > self.room:
            raise DataError(f"{self.length + tokens} tokens do not fit the {self.room} that there is room for")

    def append(self, layer: int, k_NGTK: Tensor, v_NGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [N, G, S, K] of a layer, with the new ones at the end."""
        end = self.length + k_NGTK.shape[2]
        held = self._filled[layer]
        if held is None:
            rows, heads, _, width = k_NGTK.shape
            held = (k_NGTK.new_empty(rows, heads, self.room, width), v_NGTK.new_empty(rows, heads, self.room, width))
            self._filled[layer] = held
        tokens = end - self.length  # narrow, not brackets: these are called for every token of every layer
        held[0].narrow(2, self.length, tokens).copy_(k_NGTK)
        held[1].narrow(2, self.length, tokens).copy_(v_NGTK)
        return held[0].narrow(2, 0, end), held[1].narrow(2, 0, end)

    def memory(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """What `remember` was given."""
        return self._memory[layer]

    def remember(self, layer: int, k_NHSK: Tensor, v_NHSK: Tensor) -> None:
        """Keeps the keys and values of a second sequence, which is read by cross-attention."""
        self._memory[layer] = (k_NHSK, v_NHSK)

    def advance(self, tokens: int) -> None:
        """Counts tokens that every layer was given."""
        self.length += tokens

    def places(self, tokens: int, device: torch.device) -> Tensor:
        """The place of each of the next tokens in its row [N or 1, T]; 0 on padding."""
        return self._places(device).narrow(1, self.length, tokens)

    def _places(self, device: torch.device) -> Tensor:
        """Of every column there is room for, computed once."""
        if self._columns is None:
            columns_1T = torch.arange(self.room, device=device)[None]
            if self._starts_N is not None:
                columns_1T = (columns_1T - self._starts_N[:, None]).clamp(min=0)
            self._columns = columns_1T
        return self._columns

    def turn(self, tokens: int, head_width: int, theta: float, like: Tensor) -> Turn:
        """The turn of the next tokens; that of every column is computed once."""
        if self._turn is None:
            self._turn = turn_of(self._places(like.device), head_width, theta, like.dtype)
        return self._turn.at(self.length, self.length + tokens)

    def mask(self, tokens: int, device: torch.device) -> Tensor | None:
        """Which columns each of the next tokens may look at [N or 1, T, S]; None for the usual causal order.

        A token of padding looks at itself: nothing reads it, but a row without any key has no softmax.
        """
        if self._starts_N is None and (tokens == 1 or self.length == 0):
            return None
        columns_S = torch.arange(self.length + tokens, device=device)
        own_T = columns_S[self.length :]
        seen_1TS = (columns_S <= own_T[:, None])[None]
        if self._starts_N is None:
            return seen_1TS
        real_N1S = columns_S >= self._starts_N[:, None, None]
        return (seen_1TS & real_N1S) | (columns_S == own_T[:, None])

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order; a row may stand there more than once."""
        if self._starts_N is not None:
            self._starts_N = self._starts_N[rows_M]
            if self._columns is not None:
                self._columns = self._columns[rows_M]
            if self._turn is not None:
                self._turn = Turn(self._turn.cos[rows_M], self._turn.sin[rows_M])
        for layer, held in enumerate(self._filled):
            if held is not None:
                self._filled[layer] = (self._chosen(held[0], rows_M), self._chosen(held[1], rows_M))
        for layer, memory in enumerate(self._memory):
            if memory is not None:
                self._memory[layer] = (memory[0][rows_M], memory[1][rows_M])

    def _chosen(self, buffer_NGRK: Tensor, rows_M: Tensor) -> Tensor:
        """A buffer of the same room; only what is filled is copied."""
        chosen = buffer_NGRK.new_empty(len(rows_M), *buffer_NGRK.shape[1:])
        chosen[:, :, : self.length] = buffer_NGRK[rows_M, :, : self.length]
        return chosen
