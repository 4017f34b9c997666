"""The order that documents of texts and pictures keep: a picture is its begin token, a fixed number of codes, its end.

Chameleon (arXiv 2405.09818) and CM3Leon write both kinds of tokens with one softmax; outside a picture codes are ruled
out, inside it everything else is.

N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PictureTokens:
    """Which tokens belong to pictures.

    Attributes:
        begin, end: what stands before and after a picture's codes.
        codes: the ids of codes, as (first, one after the last).
        length: how many codes a picture has.
    """

    begin: int
    end: int
    codes: tuple[int, int]
    length: int


class ModalGrammar:
    """The state of some rows: how many codes of the open picture are still to come.

    Args:
        written: each row's tokens so far: a picture may be open at their end.
        forbidden: tokens that may not come at all (padding, sentinels).
    """

    def __init__(
        self, tokens: PictureTokens, vocabulary: int, written: Sequence[Sequence[int]], forbidden: Sequence[int] = ()
    ) -> None:
        self.tokens = tokens
        first, last = tokens.codes
        self._text_V = torch.ones(vocabulary, dtype=torch.bool)
        self._text_V[first:last] = False
        self._text_V[[tokens.end, *forbidden]] = False
        self._codes_V = torch.zeros(vocabulary, dtype=torch.bool)
        self._codes_V[first:last] = True
        self._end_V = torch.zeros(vocabulary, dtype=torch.bool)
        self._end_V[tokens.end] = True
        self._left_N = torch.tensor([self._left_after(row) for row in written], dtype=torch.int64)

    def _left_after(self, row: Sequence[int]) -> int:
        """What a row's tokens leave open: -1 outside a picture, else codes to come, 0 where its end is due."""
        left = -1
        for token in row:
            left = self._next(left, token)
        return left

    def _next(self, left: int, token: int) -> int:
        if token == self.tokens.begin:
            return self.tokens.length
        return -1 if token == self.tokens.end or left < 0 else left - 1

    def allowed(self) -> Tensor:
        """bool [N, V]."""
        inside_N1, ending_N1 = (self._left_N > 0)[:, None], (self._left_N == 0)[:, None]
        return torch.where(inside_N1, self._codes_V, torch.where(ending_N1, self._end_V, self._text_V))

    def advance(self, tokens_N: Tensor) -> None:
        """Takes in the tokens that were chosen."""
        pairs = zip(self._left_N.tolist(), tokens_N.tolist(), strict=True)
        self._left_N = torch.tensor([self._next(left, token) for left, token in pairs], dtype=torch.int64)

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._left_N = self._left_N[rows_M.cpu()]
