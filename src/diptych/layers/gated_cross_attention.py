"""Cross-attention that begins as nothing: a block between the blocks of a language model, opened by two gates.

Alayrac et al. 2022, "Flamingo", arXiv 2204.14198 (section 3.1.2, figure 4):

x = x + tanh(a) attention(norm(x), pictures), then x = x + tanh(b) mlp(norm(x))

Both gates begin at 0, so that the language model says at first what it says alone. A token looks at what its mask
shows it; one that may look at nothing reads zero.

B rows, T tokens, S vectors of a row's pictures, C their width, H heads, K head width, D width of the language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.attention import attend
from diptych.layers.causal_block import split

Activation = Literal["squared_relu", "gelu", "swiglu"]


@dataclass(frozen=True)
class GatedCrossConfig:
    """Sizes of the blocks that are put between others; the defaults are the paper's.

    Attributes:
        every: before which blocks of the language model one stands: each, every second, and so on.
        heads, head_width: of attention.
        hidden: width inside the MLP, in widths of the language model.
        activation: "squared_relu" (the paper's), "gelu" (OpenFlamingo's) or "swiglu" (IDEFICS').
        norm: "layer", or "rms" (IDEFICS').
        eps: of the norms.
    """

    every: int = 1
    heads: int = 8
    head_width: int = 64
    hidden: int = 4
    activation: Activation = "squared_relu"
    norm: Literal["layer", "rms"] = "layer"
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if min(self.every, self.heads, self.head_width, self.hidden) < 1:
            raise ConfigError(f"every size of a gated block must be at least 1: {self}")

    def norm_of(self, width: int) -> nn.Module:
        """A fresh norm of its kind."""
        return nn.RMSNorm(width, eps=self.eps) if self.norm == "rms" else nn.LayerNorm(width, eps=self.eps)


class GatedCross(nn.Module):
    """One such block.

    Attributes:
        attention_gate, mlp_gate: before the tanh; they begin at 0.
    """

    def __init__(self, config: GatedCrossConfig, width: int) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads = config.heads
        self.attention_norm, self.mlp_norm = config.norm_of(width), config.norm_of(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.mlp = _Mlp(config, width)
        self.attention_gate, self.mlp_gate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        for linear in (self.query, self.out):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)

    def forward(self, x_BTD: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask_BTS: Tensor) -> Tensor:
        """[B, T, D].

        Args:
            mask_BTS: True where a token may look.
        """
        any_BT1 = mask_BTS.any(-1, keepdim=True)
        q_BHTK = split(self.query(self.attention_norm(x_BTD)), self.heads)
        mixed = attend(q_BHTK, k_BHSK, v_BHSK, mask_BTS | ~any_BT1)  # a row without any key has no softmax
        read_BTD = self.out(mixed.transpose(1, 2).flatten(2)).masked_fill(~any_BT1, 0.0)
        x_BTD = x_BTD + self.attention_gate.tanh() * read_BTD
        out: Tensor = x_BTD + self.mlp_gate.tanh() * self.mlp(self.mlp_norm(x_BTD))
        return out


class PictureKeys(nn.Module):
    """What one such block finds in pictures, apart from it: it is made once and read at every token.

    A module of its own, because what is sharded over processes is whole only while it is called itself.
    """

    def __init__(self, config: GatedCrossConfig, context_width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.key_value = nn.Linear(context_width, 2 * config.heads * config.head_width, bias=False)
        nn.init.normal_(self.key_value.weight, std=context_width**-0.5)

    def forward(self, seen_BSC: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, S, K] of the vectors of a row's pictures."""
        k, v = self.key_value(seen_BSC).chunk(2, dim=-1)
        return split(k, self.heads), split(v, self.heads)


class _Mlp(nn.Module):
    def __init__(self, config: GatedCrossConfig, width: int) -> None:
        super().__init__()
        self.activation = config.activation
        hidden = config.hidden * width
        self.up = nn.Linear(width, hidden * (2 if config.activation == "swiglu" else 1), bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        for linear in (self.up, self.down):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        raised = self.up(x)
        match self.activation:
            case "squared_relu":
                raised = raised.relu().square()
            case "gelu":
                raised = F.gelu(raised)
            case "swiglu":
                gate, raised = raised.chunk(2, dim=-1)
                raised = F.silu(gate) * raised
        out: Tensor = self.down(raised)
        return out
