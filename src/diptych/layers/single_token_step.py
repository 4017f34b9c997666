"""One new token of every row through a causal transformer, as bare products: what decoding on a CPU is made of.

A step of a small model costs less in products than in calling the modules that hold them. So the blocks' sums are
written out here, once more: query, key and value are one product, what a sublayer adds is added by the product that
makes it, and nothing is asked twice. The states are those of `CausalTransformer.forward` (tests/layers/
single_token_step_test.py compares them for every kind of block).

N rows, H heads, G key heads, K head width, D width, S tokens read so far, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.layers.attention import attend
from diptych.layers.causal_block import CausalAttention, CausalBlock, CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.key_value_cache import KeyValueCache
from diptych.layers.rotary import Turn
from diptych.layers.small_batch_linear import BLOCKED_FROM, ROWS, SmallBatchLinear, SmallBatchProduct

Norm = Callable[[Tensor], Tensor]


class _Map(NamedTuple):
    """A linear map."""

    product: SmallBatchProduct
    bias_O: Tensor | None

    def __call__(self, x_NI: Tensor) -> Tensor:
        """[N, O]."""
        return self.product(x_NI, self.bias_O)

    def added(self, to_NO: Tensor, x_NI: Tensor) -> Tensor:
        """[N, O]: what it gives and something more."""
        return self.product.added(to_NO, x_NI, self.bias_O)


class SingleTokenStep:
    """The step of a stack whose weights stay as they are."""

    def __init__(self, trunk: CausalTransformer) -> None:
        self._trunk = trunk
        self._config = trunk.config
        self._blocked = False
        self._layers: list[_Layer] = []
        self._norm = _norm_of(trunk.norm)

    @classmethod
    def of(cls, trunk: CausalTransformer) -> Self | None:
        """The step; None where it is not for this stack: on another device, with parts wrapped, one that reads, or one
        between whose blocks something else stands (a hook)."""
        if trunk.config.memory_width or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return None
        if any(block._forward_pre_hooks or block._forward_hooks for block in trunk.blocks):
            return None
        maps = [part for block in trunk.blocks for part in block.modules() if isinstance(part, nn.Linear)]
        plain = all(
            type(part) is SmallBatchLinear and type(part.weight) is nn.Parameter and part.copies() for part in maps
        )
        return cls(trunk) if plain and len(maps) == 5 * trunk.config.depth else None

    def takes(self, rows: int) -> bool:
        """Whether so many rows are few."""
        return rows <= ROWS

    def __call__(self, x_ND: Tensor, cache: KeyValueCache) -> Tensor:
        """States [N, D] after the last norm; the token is added to the cache.

        Raises:
            DataError: the cache has no room for it.
        """
        cache.require_room(1)
        mask_NTS = cache.mask(1, x_ND.device)
        turn = cache.turn(1, self._config.head_width, self._config.rotary, x_ND) if self._config.rotary else None
        for number, layer in enumerate(self._layers_for(len(x_ND))):
            x_ND = layer(x_ND, turn, mask_NTS, cache, number)
        cache.advance(1)
        return self._norm(x_ND)

    def _layers_for(self, rows: int) -> list[_Layer]:
        """With weights in an order for so many rows; rows that end later do not bring another one."""
        blocked = self._blocked or rows >= BLOCKED_FROM
        if not self._layers or blocked != self._blocked:
            blocks = [block for block in self._trunk.blocks if isinstance(block, CausalBlock)]
            self._layers = [_Layer(block, self._config, blocked) for block in blocks]
            self._blocked = blocked
        return self._layers


class _Layer:
    """One block."""

    def __init__(self, block: CausalBlock, config: CausalConfig, blocked: bool) -> None:
        self._config = config
        self._heads, self._key_heads = block.attention.heads, block.attention.key_heads
        self._qkv, self._out = _stacked(block.attention, blocked), _map_of(block.attention.out, blocked)
        self._up, self._down = _map_of(block.mlp.up, blocked), _map_of(block.mlp.down, blocked)
        self._gains = _head_gains(block.attention)
        self._attention_norm, self._mlp_norm = _norm_of(block.attention_norm), _norm_of(block.mlp_norm)

    def __call__(
        self, x_ND: Tensor, turn: Turn | None, mask_NTS: Tensor | None, cache: KeyValueCache, number: int
    ) -> Tensor:
        after = self._config.norm_after
        mixed_ND = self._attended(x_ND if after else self._attention_norm(x_ND), turn, mask_NTS, cache, number)
        x_ND = self._added(x_ND, self._out, mixed_ND, self._attention_norm)
        raised = self._raised(x_ND if after else self._mlp_norm(x_ND))
        return self._added(x_ND, self._down, raised, self._mlp_norm)

    def _attended(
        self, x_ND: Tensor, turn: Turn | None, mask_NTS: Tensor | None, cache: KeyValueCache, number: int
    ) -> Tensor:
        heads, key_heads, rows = self._heads, self._key_heads, len(x_ND)
        qkv = self._qkv(x_ND).view(rows, heads + 2 * key_heads, 1, self._config.head_width)
        qk, v = qkv.split_with_sizes((heads + key_heads, key_heads), 1)
        if self._gains is not None:
            qk = F.layer_norm(qk, qk.shape[-1:], eps=1e-5) * self._gains[0] + self._gains[1]
        if turn is not None:
            qk = turn(qk)
        q, k = qk.split_with_sizes((heads, key_heads), 1)
        keys, values = cache.append(number, k, v)
        if key_heads != heads:
            keys, values = (part.repeat_interleave(heads // key_heads, dim=1) for part in (keys, values))
        return attend(q, keys, values, mask_NTS).view(rows, -1)

    def _raised(self, x_ND: Tensor) -> Tensor:
        raised = self._up(x_ND)
        if not self._config.gated:
            return F.gelu(raised)
        gate, rest = raised.chunk(2, 1)
        return F.silu(gate).mul_(rest)

    def _added(self, x_ND: Tensor, through: _Map, h: Tensor, norm: Norm) -> Tensor:
        return x_ND + norm(through(h)) if self._config.norm_after else through.added(x_ND, h)


def _map_of(linear: SmallBatchLinear, blocked: bool) -> _Map:
    return _Map(linear.product(blocked), linear.bias)


def _stacked(attention: CausalAttention, blocked: bool) -> _Map:
    """Query, key and value as one map."""
    query, rest = attention.query, attention.key_value
    bias = None if query.bias is None else torch.cat([query.bias, rest.bias])
    return _Map(attention.stacked.of(blocked, query.weight, rest.weight), bias)


def _head_gains(attention: CausalAttention) -> tuple[Tensor, Tensor] | None:
    """Gain and bias [H + G, 1, K] of queries and keys."""
    query, key = attention.query_norm, attention.key_norm
    if query is None or key is None:
        return None
    return torch.cat([query.weight, key.weight])[:, None], torch.cat([query.bias, key.bias])[:, None]


def _norm_of(norm: nn.Module) -> Norm:
    """The function of a norm; root mean squares by hand, which is half the time of torch's for a few rows."""
    if not isinstance(norm, nn.RMSNorm):
        return norm
    width = norm.normalized_shape[0]
    # x / sqrt(sum / D + eps) = sqrt(D) x / sqrt(sum + D eps); a tensor is added in a third of a number's time.
    gain_D, eps = norm.weight.detach() * width**0.5, norm.weight.new_tensor((norm.eps or 0.0) * width)

    def rms(x_ND: Tensor) -> Tensor:
        squares_N1 = torch.linalg.vecdot(x_ND, x_ND).unsqueeze(1).add_(eps)
        out: Tensor = (x_ND * squares_N1.rsqrt_()).mul_(gain_D)
        return out

    return rms
