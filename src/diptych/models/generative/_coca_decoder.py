"""CoCa's decoder a token at a time: both halves, each with its cache.

N rows, T tokens, Q caption queries, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.core.errors import TextTooLong
from diptych.models.generative._coca_module import Coca


class CocaDecoder:
    """Reads the beginnings of captions, padded at the left, then goes on (a `decoding.decoder.Decoder`)."""

    def __init__(self, model: Coca, memory_NQD: Tensor, prompts: Sequence[Sequence[int]], most: int) -> None:
        """
        Args:
            prompts: the tokens that each caption begins with, at least one.
            most: the longest row, its beginning included.

        Raises:
            TextTooLong: a beginning leaves no room for one more token.
        """
        longest = max(len(prompt) for prompt in prompts)
        if longest >= most:
            raise TextTooLong(f"a beginning of {longest} tokens leaves no room to go on in {most}: shorten it")
        device = memory_NQD.device
        starts_N = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
        self._model, self._memory = model, memory_NQD
        room = most + int(starts_N.max())
        self._caches = (model.lower.cache(room, starts_N), model.upper.cache(room, starts_N))
        rows = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        self._first: Tensor | None = self._read(torch.tensor(rows, device=device))

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """[N, V]."""
        if tokens_N is None:
            assert self._first is not None, "the beginning's logits are asked for once"
            logits_NV, self._first = self._first, None
            return logits_NV
        return self._read(tokens_N[:, None])

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        for cache in self._caches:
            cache.select(rows_M)
        self._memory = self._memory[rows_M]
        if self._first is not None:
            self._first = self._first[rows_M]

    def _read(self, tokens_NT: Tensor) -> Tensor:
        lower, upper = self._caches
        x_NTD = self._model.embed(tokens_NT, lower.places(tokens_NT.shape[1], tokens_NT.device))
        states_NTD = self._model.upper(self._model.lower(x_NTD, lower), upper, memory_BMC=self._memory)
        return self._model.logits(states_NTD[:, -1])
