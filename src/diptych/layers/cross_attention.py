"""Pre-norm transformer blocks that read a second sequence: self-attention, cross-attention, MLP.

The order is that of the decoder of Vaswani et al. 2017, arXiv 1706.03762 (section 3.1), without a causal mask.

B batch, T tokens, S tokens of the context, D width, C width of the context.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diptych.core.errors import ConfigError
from diptych.layers.attention import Attention, attend
from diptych.layers.transformer import Activation, Mlp


class CrossAttention(nn.Module):
    """Queries of one sequence, keys and values of another one, which may have another width."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"width {width} is not divisible by {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, context_BSC: Tensor, mask_B1S: Tensor | None = None) -> Tensor:
        """[B, T, D].

        Args:
            mask_B1S: True where the context may be looked at, which is somewhere in each row; None for everywhere.
        """
        k_BSD, v_BSD = self.key_value(context_BSC).chunk(2, dim=-1)
        mixed = attend(self._split(self.query(x_BTD)), self._split(k_BSD), self._split(v_BSD), mask_B1S)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.view(*x_BTD.shape[:2], self.heads, x_BTD.shape[2] // self.heads).transpose(1, 2)


class CrossBlock(nn.Module):
    """x + attention(norm(x)), then x + cross(norm(x), context), then x + mlp(norm(x))."""

    def __init__(
        self, width: int, context_width: int, heads: int, hidden: int, activation: Activation, eps: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.cross = CrossAttention(width, context_width, heads)
        self.norm3 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden, activation)

    def forward(
        self, x_BTD: Tensor, context_BSC: Tensor, mask_B1T: Tensor | None, mask_B1S: Tensor | None, first: bool = False
    ) -> Tensor:
        """[B, T, D], or [B, 1, D] of the first token: one door, which FSDP2 watches.

        Args:
            mask_B1T, mask_B1S: True where a token of x, and of the context, may be looked at; None for everywhere.
            first: whether only the first token is computed; the others serve as keys and values.
        """
        normed_BTD = self.norm1(x_BTD)
        x = x_BTD[:, :1] if first else x_BTD
        x = x + self.attention(normed_BTD, mask_B1T, query_BTD=normed_BTD[:, :1] if first else None)
        x = x + self.cross(self.norm2(x), context_BSC, mask_B1S)
        out: Tensor = x + self.mlp(self.norm3(x))
        return out


class CrossTransformer(nn.Module):
    """A stack of such blocks and a last norm.

    Attributes:
        checkpointing: recompute each block in the backward pass: memory for time.
    """

    def __init__(
        self, width: int, context_width: int, depth: int, heads: int, hidden: int,
        activation: Activation = Activation.GELU, eps: float = 1e-5,
    ) -> None:  # fmt: skip
        super().__init__()
        if depth < 1:
            raise ConfigError(f"a stack of {depth} cross-attention blocks reads no context: give a depth of 1 or more")
        self.blocks = nn.ModuleList(
            CrossBlock(width, context_width, heads, hidden, activation, eps) for _ in range(depth)
        )
        self.norm_post = nn.LayerNorm(width, eps=eps)
        self.checkpointing = False
        self._initialise(width, context_width, depth)

    def _initialise(self, width: int, context_width: int, depth: int) -> None:
        """As `layers.transformer` begins: residual branches, of which a block has three, shrink with depth."""
        residual = width**-0.5 * (3 * depth) ** -0.5
        for block in self.blocks:
            assert isinstance(block, CrossBlock)
            for linear, std in (
                (block.attention.qkv, width**-0.5),
                (block.attention.out, residual),
                (block.cross.query, width**-0.5),
                (block.cross.key_value, context_width**-0.5),
                (block.cross.out, residual),
                (block.mlp.up, (2 * width) ** -0.5),
                (block.mlp.down, residual),
            ):
                nn.init.normal_(linear.weight, std=std)
                nn.init.zeros_(linear.bias)

    def forward(
        self, x_BTD: Tensor, context_BSC: Tensor, mask_B1T: Tensor | None = None, mask_B1S: Tensor | None = None,
        first: bool = False,
    ) -> Tensor:  # fmt: skip
        """[B, T, D] after the last norm; with `first` [B, D] of the first token, for about the last block less."""
        for block in self.blocks[:-1]:
            x_BTD = self._run(block, x_BTD, context_BSC, mask_B1T, mask_B1S, False)
        x = self._run(self.blocks[-1], x_BTD, context_BSC, mask_B1T, mask_B1S, first)
        out: Tensor = self.norm_post(x[:, 0] if first else x)
        return out

    def _run(
        self, block: nn.Module, x_BTD: Tensor, context_BSC: Tensor, mask_B1T: Tensor | None, mask_B1S: Tensor | None,
        first: bool,
    ) -> Tensor:  # fmt: skip
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, x_BTD, context_BSC, mask_B1T, mask_B1S, first, use_reentrant=False)
            return out
        result: Tensor = block(x_BTD, context_BSC, mask_B1T, mask_B1S, first)
        return result
