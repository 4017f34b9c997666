"""The Q-Former: learned queries that read a picture, and a text, through one BERT whose self-attention they share.

Li et al. 2023, "BLIP-2", arXiv 2301.12597, section 3. Queries and text have MLPs of their own; the queries alone look
at the picture, in every second block. Who sees whom is the objective's to say: queries and text apart (contrast), both
together (matching), or the text the queries and what it has said so far, and the queries themselves alone (writing).
Outputs and gradients are those of `transformers`' Blip2QFormerModel.

B batch, Q queries, T text tokens, N both, S features of the picture, C their width, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.layers.attention import Attention
from diptych.layers.bert import INITIAL_STD, initialise
from diptych.layers.cross_attention import CrossAttention
from diptych.layers.transformer import Activation, Mlp


@dataclass(frozen=True)
class QFormerConfig:
    """Sizes; the defaults are BLIP-2's.

    Attributes:
        queries: Q.
        image_width: C.
        every: of so many blocks the first looks at the picture.
        vocabulary: of the text; 0 for queries alone.
        context: the longest text in tokens.
    """

    queries: int = 32
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    image_width: int = 1408
    every: int = 2
    vocabulary: int = 30_523
    context: int = 512
    eps: float = 1e-12

    def __post_init__(self) -> None:
        if min(self.queries, self.width, self.depth, self.heads, self.hidden, self.image_width, self.every) < 1:
            raise ConfigError(f"every size of a Q-Former must be at least 1: {self}")


class QFormerBlock(nn.Module):
    """Self-attention over queries and text, cross-attention of the queries, an MLP for each; norms on the sums."""

    def __init__(self, config: QFormerConfig, looks: bool, reads: bool) -> None:
        """
        Args:
            looks: whether the queries look at the picture.
            reads: whether the text goes through; without it the queries alone come out.
        """
        super().__init__()
        width = config.width
        self.attention, self.norm = Attention(width, config.heads), nn.LayerNorm(width, eps=config.eps)
        self.cross = CrossAttention(width, config.image_width, config.heads) if looks else None
        self.cross_norm = nn.LayerNorm(width, eps=config.eps) if looks else None
        self.query_mlp = Mlp(width, config.hidden, Activation.GELU)
        self.query_norm = nn.LayerNorm(width, eps=config.eps)
        self.text_mlp = Mlp(width, config.hidden, Activation.GELU) if reads else None
        self.text_norm = nn.LayerNorm(width, eps=config.eps) if reads else None

    def forward(self, x_BND: Tensor, queries: int, image_BSC: Tensor | None, mask_BNN: Tensor | None) -> Tensor:
        """[B, N, D], or the queries alone.

        Args:
            queries: how many rows at the beginning are queries.
            mask_BNN: True where a row may be looked at; None for everywhere.
        """
        x_BND = self.norm(x_BND + self.attention(x_BND, mask_BNN))
        query_BQD, text_BTD = x_BND[:, :queries], x_BND[:, queries:]
        parts = []
        if queries:
            if self.cross is not None and self.cross_norm is not None and image_BSC is not None:
                query_BQD = self.cross_norm(query_BQD + self.cross(query_BQD, image_BSC))
            parts.append(self.query_norm(query_BQD + self.query_mlp(query_BQD)))
        if text_BTD.shape[1] and self.text_mlp is not None and self.text_norm is not None:
            parts.append(self.text_norm(text_BTD + self.text_mlp(text_BTD)))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


class QFormer(nn.Module):
    """Queries, text embeddings and blocks.

    Args:
        speaks: whether what becomes of a text is read too (`read`, `write`); without it the last block leaves it out.
    """

    def __init__(self, config: QFormerConfig, speaks: bool = True) -> None:
        super().__init__()
        self.config, self.speaks = config, speaks
        self.queries_QD = nn.Parameter(torch.randn(config.queries, config.width) * INITIAL_STD)
        reads = config.vocabulary > 0
        self.words = nn.Embedding(config.vocabulary, config.width) if reads else None
        self.positions_TD = nn.Parameter(torch.randn(config.context, config.width) * INITIAL_STD) if reads else None
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.blocks = nn.ModuleList(
            QFormerBlock(config, layer % config.every == 0, reads and (speaks or layer < config.depth - 1))
            for layer in range(config.depth)
        )
        initialise(self)

    def see(self, image_BSC: Tensor) -> Tensor:
        """The queries [B, Q, D], told the picture alone."""
        return self._through(self._queries(len(image_BSC)), self.config.queries, image_BSC, None)

    def read(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """The text [B, T, D], told itself alone, in both directions."""
        assert self.speaks, "the text is left out by the last block"
        return self._through(self._text(tokens_BT), 0, None, _inside(tokens_BT, lengths_B)[:, None])

    def match(self, image_BSC: Tensor, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """The queries [B, Q, D], told the picture and the text, which is told them."""
        queries = self.config.queries
        x_BND = torch.cat([self._queries(len(image_BSC)), self._text(tokens_BT)], dim=1)
        seen_BN = torch.cat(
            [lengths_B.new_ones(len(tokens_BT), queries, dtype=torch.bool), _inside(tokens_BT, lengths_B)], dim=1
        )
        return self._through(x_BND, queries, image_BSC, seen_BN[:, None])[:, :queries]

    def write(self, image_BSC: Tensor, tokens_BT: Tensor) -> Tensor:
        """The text [B, T, D], each token told the queries and what comes before it; padding stands at the right."""
        assert self.speaks, "the text is left out by the last block"
        queries, tokens = self.config.queries, tokens_BT.shape[1]
        x_BND = torch.cat([self._queries(len(image_BSC)), self._text(tokens_BT)], dim=1)
        mask_NN = torch.ones(queries + tokens, queries + tokens, dtype=torch.bool, device=tokens_BT.device).tril()
        mask_NN[:queries] = False
        mask_NN[:, :queries] = True
        return self._through(x_BND, queries, image_BSC, mask_NN[None])[:, queries:]

    def _queries(self, rows: int) -> Tensor:
        return self.queries_QD.expand(rows, -1, -1)

    def _text(self, tokens_BT: Tensor) -> Tensor:
        assert self.words is not None and self.positions_TD is not None, "this Q-Former reads no text"
        if tokens_BT.shape[1] > self.config.context:
            raise ConfigError(f"texts of {tokens_BT.shape[1]} tokens do not fit the {self.config.context} positions")
        out: Tensor = self.words(tokens_BT) + self.positions_TD[: tokens_BT.shape[1]]
        return out

    def _through(self, x_BND: Tensor, queries: int, image_BSC: Tensor | None, mask_BNN: Tensor | None) -> Tensor:
        x_BND = self.norm(x_BND)
        for block in self.blocks:
            x_BND = block(x_BND, queries, image_BSC, mask_BNN)
        return x_BND


def _inside(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """bool [B, T], True where a token is no padding."""
    return torch.arange(tokens_BT.shape[1], device=tokens_BT.device) < lengths_B[:, None]
