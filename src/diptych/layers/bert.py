"""BERT's encoder and its masked-language head (Devlin et al. 2018, arXiv 1810.04805).

Blocks are post-norm: x = norm(x + attention(x)), then x = norm(x + mlp(x)); the norm stands on the sum, so the last
block's output is normalised already. No dropout.

B batch, T tokens, M positions of a row, N predicted positions, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.layers.attention import Attention
from diptych.layers.transformer import Activation, Mlp

INITIAL_STD = 0.02
"""Of embeddings, as in the released code."""


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT.

    Attributes:
        context: how many positions are learned: the longest text in tokens.
        hidden: width of the MLPs.
        types: kinds of segments.
        eps: of the layer norms.
    """

    vocab_size: int = 30522
    context: int = 512
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    types: int = 2
    activation: Activation = Activation.GELU
    eps: float = 1e-12


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.norm1 = nn.LayerNorm(config.width, eps=config.eps)
        self.mlp = Mlp(config.width, config.hidden, config.activation)
        self.norm2 = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, x_BTD: Tensor, mask_B1T: Tensor | None = None, places_BM: Tensor | None = None) -> Tensor:
        """The output [B, T, D], or [B, M, D] at some positions of each row: one door, which FSDP2 watches.

        Args:
            mask_B1T: True where a key may be looked at; None for everywhere.
            places_BM: int64, the only positions to compute; the others serve as keys and values.
        """
        query = x_BTD if places_BM is None else rows_at(x_BTD, places_BM)
        mixed = self.attention(x_BTD, mask_B1T, query_BTD=None if places_BM is None else query)
        x = self.norm1(query + mixed)
        out: Tensor = self.norm2(x + self.mlp(x))
        return out


class BertEncoder(nn.Module):
    """A stack of post-norm blocks.

    Attributes:
        checkpointing: recompute each block in the backward pass: memory for time.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PostNormBlock(config) for _ in range(config.depth))
        self.checkpointing = False
        initialise(self)

    def forward(self, x_BTD: Tensor, mask_B1T: Tensor | None = None, places_BM: Tensor | None = None) -> Tensor:
        """The last hidden states [B, T, D]; with `places_BM` those of these positions alone [B, M, D].

        Heads that read a few positions save most of the last block that way.
        """
        for block in self.blocks[:-1]:
            x_BTD = self._run(block, x_BTD, mask_B1T, None)
        return self._run(self.blocks[-1], x_BTD, mask_B1T, places_BM)

    def _run(self, block: nn.Module, x_BTD: Tensor, mask_B1T: Tensor | None, places_BM: Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, x_BTD, mask_B1T, places_BM, use_reentrant=False)
            return out
        result: Tensor = block(x_BTD, mask_B1T, places_BM)
        return result


class MaskedWordHead(nn.Module):
    """Hidden states to logits over the vocabulary; the output matrix is that of the word embeddings."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.bias_V = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = config.activation
        initialise(self)

    def forward(self, rows_ND: Tensor, words_VD: Tensor) -> Tensor:
        """Logits [N, V].

        Args:
            words_VD: the weight of the word embeddings.
        """
        return F.linear(self.norm(self.activation(self.dense(rows_ND))), words_VD, self.bias_V)


def rows_at(x_BTD: Tensor, places_BM: Tensor) -> Tensor:
    """Some positions of each row: [B, M, D]."""
    return x_BTD.gather(1, places_BM[..., None].expand(-1, -1, x_BTD.shape[-1]))


def initialise(module: nn.Module) -> None:
    """Matrices from a normal distribution that keeps the size of what passes (1 / sqrt(inputs)), embeddings as BERT's.

    BERT begins its matrices at 0.02 too, which is about that at its width. In a narrow model it is a fifth of it, and
    what one token has to say to another is lost in the sum that the norms stand on: attention is learned late.
    """
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=INITIAL_STD)
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=part.in_features**-0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
