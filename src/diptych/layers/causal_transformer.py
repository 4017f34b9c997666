"""A causal transformer over vectors: the trunk of everything that writes tokens one after another.

What goes in is embedded by its owner, and what comes out is read by its owner's head. Padding stands at the right in
training, where no token looks at what comes after it, and at the left under a cache (key_value_cache.py).

B batch, T tokens, S tokens that are looked at, D width, M memory tokens, C their width, G key
heads, P places that are known before anything is read, K width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diptych.layers.causal_block import CausalBlock, CausalConfig
from diptych.layers.key_value_cache import KeyValueCache
from diptych.layers.rotary import Turn, turn_of


class CausalTransformer(nn.Module):
    """A stack of blocks and a last norm.

    Attributes:
        checkpointing: recompute each block in the backward pass: memory for time.
    """

    def __init__(self, config: CausalConfig, last_norm: bool = True) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.depth))
        self.norm: nn.Module = config.norm_of(config.width) if last_norm else nn.Identity()
        self.checkpointing = False
        self._initialise()

    def _initialise(self) -> None:
        """Inputs by 1 / sqrt(width), residual branches smaller with depth (as in GPT-2)."""
        config = self.config
        shrink = (2 * config.depth) ** -0.5
        for name, parameter in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5 * shrink)
            elif parameter.ndim == 2 and not name.endswith(("_norm.weight", "_norm.bias")):
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, x_BTD: Tensor, cache: KeyValueCache | None = None, mask_BTS: Tensor | None = None,
        memory_BMC: Tensor | None = None, memory_mask_B1M: Tensor | None = None, places_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """States [B, T, D] after the last norm.

        Args:
            cache: of what was read before; these tokens are added to it.
            mask_BTS: True where a token may look, in the place of the causal order; not with a cache.
            memory_BMC: the second sequence, of a stack with `memory_width`.
            memory_mask_B1M: True where it is no padding; None where none of it is.
            places_BT: int64, the place of each token for its rotary position, where several sequences stand in a row;
                not with a cache.

        Raises:
            DataError: the cache has no room for these tokens.
        """
        tokens, device = x_BTD.shape[1], x_BTD.device
        if cache is not None:
            cache.require_room(tokens)
            mask_BTS = cache.mask(tokens, device)
        turn = self._turn(x_BTD, cache, places_BT)
        for layer, block in enumerate(self.blocks):
            if self.checkpointing and torch.is_grad_enabled():
                x_BTD = checkpoint(
                    block, x_BTD, turn, mask_BTS, memory_BMC, memory_mask_B1M, cache, layer, use_reentrant=False
                )
            else:
                x_BTD = block(x_BTD, turn, mask_BTS, memory_BMC, memory_mask_B1M, cache, layer)
        if cache is not None:
            cache.advance(tokens)
        out: Tensor = self.norm(x_BTD)
        return out

    def cache(self, room: int, starts_N: Tensor | None = None) -> KeyValueCache:
        """An empty cache of this stack."""
        return KeyValueCache(self.config.depth, room, starts_N)

    def known_cache(self, known: Sequence[tuple[Tensor, Tensor]], rows: int, room: int) -> KeyValueCache:
        """A cache that begins with keys and values of every layer [G, P, K], the same in every row."""
        cache = self.cache(room)
        for layer, pair in enumerate(known):
            cache.append(layer, *(part.expand(rows, -1, -1, -1) for part in pair))
        cache.advance(known[0][0].shape[1])
        return cache

    def _turn(self, x_BTD: Tensor, cache: KeyValueCache | None, places_BT: Tensor | None) -> Turn | None:
        if not self.config.rotary:
            return None
        tokens, device = x_BTD.shape[1], x_BTD.device
        if cache is not None:
            return cache.turn(tokens, self.config.head_width, self.config.rotary, x_BTD)
        places = torch.arange(tokens, device=device)[None] if places_BT is None else places_BT
        return turn_of(places, self.config.head_width, self.config.rotary, x_BTD.dtype)
