"""One block of a causal transformer: attention to what came before and to a second sequence, if any, and an MLP.

B batch, T tokens, S tokens that are looked at, H heads, G key heads, K head width, D width, M memory tokens, C their
width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.attention import attend
from diptych.layers.key_value_cache import KeyValueCache
from diptych.layers.rotary import Turn
from diptych.layers.small_batch_linear import SmallBatchCopy, SmallBatchLinear


@dataclass(frozen=True)
class CausalConfig:
    """Sizes and switches of a stack; the defaults are Llama's.

    Attributes:
        key_heads: heads of keys and values, each for several of queries (grouped-query attention); 0 for as many.
        norm: "rms" (Zhang and Sennrich 2019, arXiv 1910.07467) or "layer".
        norm_after: whether a sublayer's output is normalised before it is added, instead of its input (Chameleon 34B,
            as in Swin v2).
        head_norm: whether queries and keys are normalised a head (QK-norm: layer norm over the head width, with a gain
            and a bias for each head, as in Chameleon).
        rotary: theta of rotary positions; 0 for none, where positions are added to what goes in.
        gated: SwiGLU (Shazeer 2020, arXiv 2002.05202); False for GELU.
        bias: whether linear maps have one.
        memory_width: C of a second sequence, which every block reads by cross-attention; 0 for none.
        memory_apart: whether that reading is a block of its own, after an MLP of the first one and with a norm of the
            memory, as in open_clip's CoCa, instead of between attention and MLP.
    """

    width: int = 512
    depth: int = 8
    heads: int = 8
    hidden: int = 1376
    key_heads: int = 0
    norm: Literal["rms", "layer"] = "rms"
    eps: float = 1e-5
    norm_after: bool = False
    head_norm: bool = False
    rotary: float = 10_000.0
    gated: bool = True
    bias: bool = False
    memory_width: int = 0
    memory_apart: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.hidden) < 1 or self.width % self.heads:
            raise ConfigError(f"width {self.width} must be divisible by {self.heads} heads, and every size at least 1")
        if self.key_heads < 0 or (self.key_heads and self.heads % self.key_heads):
            raise ConfigError(f"{self.heads} heads cannot share {self.key_heads} key heads")
        if self.rotary and self.head_width % 2:
            raise ConfigError(f"rotary positions turn pairs, and a head of {self.head_width} numbers is odd")

    @property
    def head_width(self) -> int:
        """K."""
        return self.width // self.heads

    def norm_of(self, width: int) -> nn.Module:
        """A fresh norm of its kind."""
        return nn.RMSNorm(width, eps=self.eps) if self.norm == "rms" else nn.LayerNorm(width, eps=self.eps)


class HeadNorm(nn.Module):
    """Layer norm over the numbers of a head, with a gain and a bias for each head [H, K]."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, head_width))
        self.bias = nn.Parameter(torch.zeros(heads, head_width))

    def forward(self, x_BHTK: Tensor) -> Tensor:
        normed: Tensor = F.layer_norm(x_BHTK, x_BHTK.shape[-1:], eps=1e-5)
        return normed * self.weight[:, None] + self.bias[:, None]


class CausalAttention(nn.Module):
    """Each token looks at itself and at those before it.

    Attributes:
        stacked: of query, key and value, for a single token (single_token_step.py).
    """

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.heads, self.key_heads, width = config.heads, config.key_heads or config.heads, config.head_width
        self.query = SmallBatchLinear(config.width, self.heads * width, bias=config.bias)
        self.key_value = SmallBatchLinear(config.width, 2 * self.key_heads * width, bias=config.bias)
        self.out = SmallBatchLinear(self.heads * width, config.width, bias=config.bias)
        self.query_norm = HeadNorm(self.heads, width) if config.head_norm else None
        self.key_norm = HeadNorm(self.key_heads, width) if config.head_norm else None
        self.stacked = SmallBatchCopy()

    def forward(
        self, x_BTD: Tensor, turn: Turn | None, mask_BTS: Tensor | None, cache: KeyValueCache | None, layer: int
    ) -> Tensor:
        """[B, T, D].

        Args:
            mask_BTS: True where a token may look; None for causal order.
        """
        if torch.is_grad_enabled():
            self.stacked.drop()
        q, (k, v) = split(self.query(x_BTD), self.heads), self._keys_and_values(x_BTD)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if turn is not None:
            q, k = turn(q), turn(k)
        alone = cache is not None and x_BTD.shape[1] == 1
        if cache is not None:
            k, v = cache.append(layer, k, v)
        if self.key_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.key_heads, dim=1) for t in (k, v))
        mixed = attend(q, k, v, mask_BTS, causal=mask_BTS is None and not alone)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def train(self, mode: bool = True) -> Self:
        self.stacked.drop()
        return super().train(mode)

    def _keys_and_values(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        k_BTX, v_BTX = self.key_value(x_BTD).chunk(2, dim=-1)
        return split(k_BTX, self.key_heads), split(v_BTX, self.key_heads)


class MemoryAttention(nn.Module):
    """Every token looks at a second sequence, whose keys and values are computed once where there is a cache."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = SmallBatchLinear(config.width, config.width, bias=config.bias)
        self.key_value = SmallBatchLinear(config.memory_width, 2 * config.width, bias=config.bias)
        self.out = SmallBatchLinear(config.width, config.width, bias=config.bias)

    def forward(
        self, x_BTD: Tensor, memory_BMC: Tensor, mask_B1M: Tensor | None, cache: KeyValueCache | None, layer: int
    ) -> Tensor:
        """[B, T, D].

        Args:
            mask_B1M: True where the memory is no padding; None where none of it is.
        """
        known = None if cache is None else cache.memory(layer)
        if known is None:
            k_BMD, v_BMD = self.key_value(memory_BMC).chunk(2, dim=-1)
            known = split(k_BMD, self.heads), split(v_BMD, self.heads)
            if cache is not None:
                cache.remember(layer, *known)
        mixed = attend(split(self.query(x_BTD), self.heads), *known, mask_B1M)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class CausalMlp(nn.Module):
    """SwiGLU, down(silu(gate(x)) * up(x)), or down(gelu(up(x)))."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.gated = config.gated
        self.up = SmallBatchLinear(config.width, config.hidden * (2 if config.gated else 1), bias=config.bias)
        self.down = SmallBatchLinear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        raised = self.up(x)
        if self.gated:
            gate, raised = raised.chunk(2, dim=-1)
            raised = F.silu(gate) * raised
        else:
            raised = F.gelu(raised)
        out: Tensor = self.down(raised)
        return out


class CausalBlock(nn.Module):
    """Residual sublayers, each with its norm before it, or after it."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.norm_after = config.norm_after
        self.attention_norm = config.norm_of(config.width)
        self.attention = CausalAttention(config)
        self.memory_norm = config.norm_of(config.width) if config.memory_width else None
        self.memory = MemoryAttention(config) if config.memory_width else None
        apart = bool(config.memory_width) and config.memory_apart
        self.first_mlp_norm = config.norm_of(config.width) if apart else None
        self.first_mlp = CausalMlp(config) if apart else None
        self.read_norm = config.norm_of(config.memory_width) if apart else None
        self.mlp_norm = config.norm_of(config.width)
        self.mlp = CausalMlp(config)

    def forward(
        self, x_BTD: Tensor, turn: Turn | None, mask_BTS: Tensor | None, memory_BMC: Tensor | None,
        memory_mask_B1M: Tensor | None, cache: KeyValueCache | None, layer: int,
    ) -> Tensor:  # fmt: skip
        """[B, T, D]."""
        before, norm = self._before, self.attention_norm
        x_BTD = x_BTD + self._after(norm, self.attention(before(norm, x_BTD), turn, mask_BTS, cache, layer))
        if self.first_mlp is not None and self.first_mlp_norm is not None:
            x_BTD = self._through(self.first_mlp, self.first_mlp_norm, x_BTD)
        if self.memory is not None and self.memory_norm is not None:
            assert memory_BMC is not None, "a stack with memory_width reads a memory"
            norm, memory = self.memory_norm, memory_BMC if self.read_norm is None else self.read_norm(memory_BMC)
            read = self.memory(before(norm, x_BTD), memory, memory_mask_B1M, cache, layer)
            x_BTD = x_BTD + self._after(norm, read)
        return self._through(self.mlp, self.mlp_norm, x_BTD)

    def _through(self, mlp: nn.Module, norm: nn.Module, x_BTD: Tensor) -> Tensor:
        out: Tensor = x_BTD + self._after(norm, mlp(self._before(norm, x_BTD)))
        return out

    def _before(self, norm: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = x if self.norm_after else norm(x)
        return out

    def _after(self, norm: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = norm(x) if self.norm_after else x
        return out


def split(x_BTX: Tensor, heads: int) -> Tensor:
    """[B, T, heads * K] as [B, heads, T, K]."""
    return x_BTX.view(*x_BTX.shape[:2], heads, x_BTX.shape[2] // heads).transpose(1, 2)
