"""A decoder of which everything is known: the next token depends on the last one alone."""

from __future__ import annotations

import torch
from torch import Tensor


class Bigram:
    """Logits [V, V] of the token after each token; rows begin after the tokens that are given."""

    def __init__(self, logits_VV: Tensor, last_N: list[int]) -> None:
        self.logits_VV = logits_VV
        self.last_N = torch.tensor(last_N)
        self.rows_seen: list[int] = []

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        if tokens_N is not None:
            self.last_N = tokens_N
        self.rows_seen.append(len(self.last_N))
        return self.logits_VV[self.last_N]

    def select(self, rows_M: Tensor) -> None:
        self.last_N = self.last_N[rows_M]


def random_logits(size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
