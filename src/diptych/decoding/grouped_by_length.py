"""A decoder for models that read rows of one length only: rows of like length go together.

N rows, V vocabulary, M chosen rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diptych.decoding.decoder import Decoder


class GroupedByLength:
    """Decoders, each of rows of one length, as one."""

    def __init__(self, lengths: Sequence[int], make: Callable[[list[int]], Decoder]) -> None:
        """
        Args:
            lengths: of each row's prompt.
            make: the decoder of some rows, all of one length, by their places.
        """
        self._groups: list[tuple[Decoder, list[int]]] = []
        for length in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == length]
            self._groups.append((make(rows), rows))

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """Logits [N, V] of each row's next token."""
        parts = [group.next_logits(None if tokens_N is None else tokens_N[rows]) for group, rows in self._groups]
        order = torch.tensor([row for _, rows in self._groups for row in rows], device=parts[0].device)
        return torch.cat(parts)[order.argsort()]

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order; a row may stand there more than once."""
        chosen, left = rows_M.tolist(), []
        for group, rows in self._groups:
            inside = {row: place for place, row in enumerate(rows)}
            kept = [(place, inside[row]) for place, row in enumerate(chosen) if row in inside]
            if kept:
                group.select(torch.tensor([place for _, place in kept], device=rows_M.device))
                left.append((group, [place for place, _ in kept]))
        self._groups = left
