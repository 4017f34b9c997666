"""Pre-norm transformer blocks.

B batch, T tokens, M positions of a row, D width.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.layers.attention import Attention


class Activation(StrEnum):
    """QuickGELU is x * sigmoid(1.702 x): OpenAI's CLIP weights need it, and silently lose accuracy without it."""

    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    QUICK_GELU = "quick_gelu"

    def __call__(self, x: Tensor) -> Tensor:
        if self is Activation.QUICK_GELU:
            return x * torch.sigmoid(1.702 * x)
        return F.gelu(x, approximate="tanh" if self is Activation.GELU_TANH else "none")


class Mlp(nn.Module):
    """Two linear maps with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(self.activation(self.up(x)))
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, hidden: int, activation: Activation, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden, activation)

    def forward(
        self, x_BTD: Tensor, mask_BTS: Tensor | None = None, causal: bool = False, positions: Tensor | None = None
    ) -> Tensor:
        """The output [B, T, D], or at some positions of each row: one door, which FSDP2 watches.

        Args:
            mask_BTS: True where a query may look; None for everywhere.
            positions: the only ones to compute, [B] for an output [B, D], or [B, M] for [B, M, D]; what they may not
                see must be hidden by a mask [B, 1, T].
        """
        if positions is not None:
            return self._at(x_BTD, positions, mask_BTS)
        x_BTD = x_BTD + self.attention(self.norm1(x_BTD), mask_BTS, causal)
        out: Tensor = x_BTD + self.mlp(self.norm2(x_BTD))
        return out

    def _at(self, x_BTD: Tensor, positions: Tensor, mask_B1T: Tensor | None) -> Tensor:
        """The block's output at one position of each row [B, D], or at several [B, M, D]: all that a last block needs.

        The other positions serve as keys and values only, so their queries, output map and MLP are not computed.
        """
        places_BM = positions if positions.ndim == 2 else positions[:, None]
        rows_B1 = torch.arange(x_BTD.shape[0], device=x_BTD.device)[:, None]
        normed_BTD = self.norm1(x_BTD)
        query_BMD = normed_BTD[rows_B1, places_BM]
        x = x_BTD[rows_B1, places_BM] + self.attention(normed_BTD, mask_B1T, query_BTD=query_BMD)
        if positions.ndim == 1:
            x = x[:, 0]
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Transformer(nn.Module):
    """A stack of blocks; no norm after the last.

    Attributes:
        checkpointing: recompute each block in the backward pass: memory for time.
    """

    def __init__(
        self, width: int, depth: int, heads: int, hidden: int, activation: Activation = Activation.GELU,
        eps: float = 1e-5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, hidden, activation, eps) for _ in range(depth))
        self.checkpointing = False
        self._initialise(width, depth)

    def _initialise(self, width: int, depth: int) -> None:
        """CLIP's initialisation: residual branches shrink with depth (as in its released code)."""
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.normal_(block.attention.qkv.weight, std=width**-0.5)
            nn.init.normal_(block.attention.out.weight, std=width**-0.5 * (2 * depth) ** -0.5)
            nn.init.normal_(block.mlp.up.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.down.weight, std=width**-0.5 * (2 * depth) ** -0.5)
            for linear in (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down):
                nn.init.zeros_(linear.bias)

    def forward(self, x_BTD: Tensor, mask_BTS: Tensor | None = None, causal: bool = False) -> Tensor:
        for block in self.blocks:
            x_BTD = self._run(block, x_BTD, mask_BTS, causal)
        return x_BTD

    def pooled(
        self, x_BTD: Tensor, positions_B: Tensor, mask_B1T: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """The output [B, D] at one position of each row, equal to `forward(...)[b, positions_B[b]]`.

        Args:
            mask_B1T: True where keys are not padding; None when nothing is. With `causal` it must hide what comes
                after the position, which a causal row would not see.
        """
        full_mask = None if causal or mask_B1T is None else mask_B1T
        for block in self.blocks[:-1]:
            x_BTD = self._run(block, x_BTD, full_mask, causal)
        out: Tensor = self.blocks[-1](x_BTD, mask_B1T, positions=positions_B)
        return out

    def at(self, x_BTD: Tensor, places_BM: Tensor, mask_B1T: Tensor | None = None) -> Tensor:
        """The output [B, M, D] at some positions of each row, equal to `forward(...)` there.

        Args:
            places_BM: int64; may hold a position twice.
            mask_B1T: True where keys are not padding; None when nothing is.
        """
        for block in self.blocks[:-1]:
            x_BTD = self._run(block, x_BTD, mask_B1T, False)
        out: Tensor = self.blocks[-1](x_BTD, mask_B1T, positions=places_BM)
        return out

    def partly_pooled(self, x_BTD: Tensor, whole: int, mask_B1T: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The first `whole` rows at all positions [whole, T, D], the others at their first alone [B - whole, D].

        One pass for rows that are read in different ways; either share may be empty.

        Args:
            mask_B1T: True where keys are not padding; None when nothing is.
        """
        for block in self.blocks[:-1]:
            x_BTD = self._run(block, x_BTD, mask_B1T, False)
        masks = (None, None) if mask_B1T is None else (mask_B1T[:whole], mask_B1T[whole:])
        states_NTD = self._run(self.blocks[-1], x_BTD[:whole], masks[0], False)
        first_B = torch.zeros(len(x_BTD) - whole, dtype=torch.int64, device=x_BTD.device)
        first_MD: Tensor = self.blocks[-1](x_BTD[whole:], masks[1], positions=first_B)
        return states_NTD, first_MD

    def _run(self, block: nn.Module, x_BTD: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, x_BTD, mask, causal, use_reentrant=False)
            return out
        result: Tensor = block(x_BTD, mask, causal)
        return result
