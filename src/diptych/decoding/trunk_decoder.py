"""A causal transformer with its embedding and head as a decoder.

N rows, T tokens, V vocabulary, D width, M memory tokens, C their width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diptych.core.errors import TextTooLong
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.key_value_cache import KeyValueCache
from diptych.layers.single_token_step import SingleTokenStep

Embed = Callable[[Tensor, Tensor], Tensor]
"""Tokens [N, T] and their places [N or 1, T] -> vectors [N, T, D]."""


class TrunkDecoder:
    """Reads prompts once, then one token of every row at a time.

    Prompts are padded at the left; what a row gives does not depend on the padding.
    """

    def __init__(
        self, trunk: CausalTransformer, embed: Embed, logits: Callable[[Tensor], Tensor],
        prompts: Sequence[Sequence[int]] | Sequence[Tensor], room: int, device: torch.device,
        memory_NMC: Tensor | None = None,
        memory_mask_N1M: Tensor | None = None, cache: KeyValueCache | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            logits: states [N, D] -> [N, V].
            prompts: the tokens that are read first, at least one a row; or their vectors [T, D].
            room: the longest row, prompt included.
            cache: one that knows something already, with this room; then prompts are of one length.

        Raises:
            TextTooLong: a prompt leaves no room for one more token.
        """
        self._trunk, self._embed, self._logits = trunk, embed, logits
        self._memory, self._memory_mask = memory_NMC, memory_mask_N1M
        longest = max(len(prompt) for prompt in prompts)
        before = 0 if cache is None else cache.length
        if before + longest >= room:
            raise TextTooLong(f"a prompt of {before + longest} tokens leaves no room to go on in {room}: shorten it")
        starts_N = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
        assert cache is None or not starts_N.any(), "prompts of one length after what is known"
        self._cache = trunk.cache(room + int(starts_N.max()), starts_N) if cache is None else cache
        self._step = SingleTokenStep.of(trunk)
        self._first: Tensor | None = self._read(self._vectors(prompts, longest, device))

    def _vectors(
        self, prompts: Sequence[Sequence[int]] | Sequence[Tensor], longest: int, device: torch.device
    ) -> Tensor:
        """[N, T, D], padded at the left."""
        rows = [prompt for prompt in prompts if isinstance(prompt, Tensor)]
        if rows:
            x_NTD = rows[0].new_zeros(len(rows), longest, rows[0].shape[1])
            for place, row in enumerate(rows):
                x_NTD[place, longest - len(row) :] = row
            return x_NTD
        padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        return self._embed(torch.tensor(padded, device=device), self._cache.places(longest, device))

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """Logits [N, V] of each row's next token."""
        if tokens_N is None:
            assert self._first is not None, "the prompt's logits are asked for once"
            logits_NV, self._first = self._first, None
            return logits_NV
        places = self._cache.places(1, tokens_N.device)
        x_NTD = self._embed(tokens_N[:, None], places)
        if self._step is not None and self._step.takes(len(tokens_N)):
            return self._logits(self._step(x_NTD[:, 0], self._cache))
        return self._read(x_NTD)

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._cache.select(rows_M)
        if self._first is not None:
            self._first = self._first[rows_M]
        if self._memory is not None:
            self._memory = self._memory[rows_M]
        if self._memory_mask is not None:
            self._memory_mask = self._memory_mask[rows_M]

    def _read(self, x_NTD: Tensor) -> Tensor:
        states_NTD = self._trunk(x_NTD, self._cache, None, self._memory, self._memory_mask)
        return self._logits(states_NTD[:, -1])
