"""Multi-head attention on `scaled_dot_product_attention`.

B batch, T tokens (queries), S tokens (keys), H heads, K head width, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError


class Attention(nn.Module):
    """Self-attention; the queries may be those of a few positions only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"width {width} is not divisible by {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x_BSD: Tensor, mask_BTS: Tensor | None = None, causal: bool = False, query_BTD: Tensor | None = None
    ) -> Tensor:
        """Attention over x_BSD.

        Args:
            x_BSD: keys and values, and the queries unless they are given.
            mask_BTS: True where a query may look; None for everywhere.
            causal: a query sees itself and what comes before; not with `query_BTD`.
            query_BTD: the positions to compute, when not all are wanted.
        """
        if query_BTD is None:
            q, k, v = self.qkv(x_BSD).chunk(3, dim=-1)
        else:
            q, kv = outputs_of(self.qkv, (query_BTD, x_BSD), (x_BSD.shape[-1], 2 * x_BSD.shape[-1]))
            k, v = kv.chunk(2, dim=-1)
        mixed = attend(self._split(q), self._split(k), self._split(v), mask_BTS, causal)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x_BTD: Tensor) -> Tensor:
        # The head's width is spelled out because -1 cannot be told of a batch without rows.
        return x_BTD.view(*x_BTD.shape[:2], self.heads, x_BTD.shape[2] // self.heads).transpose(1, 2)


def outputs_of(linear: nn.Module, inputs: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """Consecutive shares of a linear map's outputs, each of an input of its own.

    Of a plain one no others are computed. One that something wraps (LoRA) is called whole and cut: its weight is not
    all that it does.

    Args:
        sizes: of the shares; all outputs together.
    """
    if type(linear) is nn.Linear:
        # A split's gradient is put together once; slices would each fill a matrix with zeros.
        weights = torch.split(linear.weight, list(sizes))
        biases = [None] * len(sizes) if linear.bias is None else torch.split(linear.bias, list(sizes))
        return [F.linear(x, weight, bias) for x, weight, bias in zip(inputs, weights, biases, strict=True)]
    ends = list(accumulate(sizes))
    return [linear(x)[..., end - size : end] for x, size, end in zip(inputs, sizes, ends, strict=True)]


def attend(q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask_BTS: Tensor | None, causal: bool = False) -> Tensor:
    """softmax(q k / sqrt(K)) v.

    On a CPU under bf16 autocast it runs in fp32: flash attention in bf16 is slower there, and less exact.
    """
    mask = None if mask_BTS is None else mask_BTS[:, None]
    if q_BHTK.device.type == "cpu" and q_BHTK.dtype == torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            mixed = F.scaled_dot_product_attention(
                q_BHTK.float(), k_BHSK.float(), v_BHSK.float(), mask, is_causal=causal
            )
        return mixed.to(torch.bfloat16)
    return F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, mask, is_causal=causal)
