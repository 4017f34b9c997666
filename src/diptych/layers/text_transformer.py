"""The text towers of CLIP (causal, read at the end-of-text token) and SigLIP (bidirectional, read at the last token).

B batch, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import DataError
from diptych.layers.transformer import Activation, Transformer

Padding = Literal["ignored", "constant"]


@dataclass(frozen=True)
class TextConfig:
    """Sizes and switches of a text transformer.

    Attributes:
        context: the longest text in tokens.
        hidden: width of the MLPs.
        causal: whether a token sees only what comes before it.
        padding: "ignored" masks it out, so a text's vector does not depend on it; "constant" reads it as text, at the
            same length always, and pools at its last position: what the released SigLIP was trained with.
    """

    vocab_size: int = 49408
    context: int = 77
    width: int = 512
    depth: int = 12
    heads: int = 8
    hidden: int = 2048
    causal: bool = True
    padding: Padding = "ignored"
    activation: Activation = Activation.GELU
    eps: float = 1e-5


class TextTransformer(nn.Module):
    """Token embeddings, positions, blocks, and one vector a text."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions_TD = nn.Parameter(torch.randn(config.context, config.width) * 0.01)
        self.transformer = Transformer(
            config.width, config.depth, config.heads, config.hidden, config.activation, config.eps
        )
        self.norm_post = nn.LayerNorm(config.width, eps=config.eps)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor, places_BT: Tensor | None = None) -> Tensor:
        """One vector [B, D] a text.

        Args:
            tokens_BT: ids, padded at the end.
            lengths_B: tokens that are not padding, start and end included.
            places_BT: int64, the position of each token where some before it were dropped; None for 0, 1, 2 ...

        Raises:
            DataError: a text longer than the context.
        """
        return self.forward_embedded(self.embedding(tokens_BT), lengths_B, places_BT)

    def forward_embedded(self, words_BTD: Tensor, lengths_B: Tensor, places_BT: Tensor | None = None) -> Tensor:
        """The same of rows that take the place of the tokens' embeddings, before positions (learned context).

        Raises:
            DataError: rows longer than the context.
        """
        x_BTD, longest = self._placed(words_BTD, places_BT), words_BTD.shape[1]
        if self.config.padding == "constant":
            last_B, mask = torch.full_like(lengths_B, longest - 1), None
        else:
            last_B, mask = lengths_B - 1, _inside(longest, lengths_B)
        out: Tensor = self.norm_post(self.transformer.pooled(x_BTD, last_B, mask, self.config.causal))
        return out

    def first(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """The vector [B, D] at the first token: for a bidirectional tower that is read at its start token."""
        x_BTD, mask = self._placed(self.embedding(tokens_BT)), _inside(tokens_BT.shape[1], lengths_B)
        out: Tensor = self.norm_post(self.transformer.pooled(x_BTD, torch.zeros_like(lengths_B), mask))
        return out

    def tokens(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Every token after the last norm [B, T, D]; on padding that is ignored it has no meaning."""
        x_BTD, constant = self._placed(self.embedding(tokens_BT)), self.config.padding == "constant"
        # A causal token sees nothing of the padding, which stands behind it.
        mask = None if constant or self.config.causal else _inside(tokens_BT.shape[1], lengths_B)
        out: Tensor = self.norm_post(self.transformer(x_BTD, mask, self.config.causal))
        return out

    def _placed(self, words_BTD: Tensor, places_BT: Tensor | None = None) -> Tensor:
        longest = words_BTD.shape[1]
        if longest > self.config.context:
            raise DataError(f"a text of {longest} tokens is longer than the context of {self.config.context}")
        positions = self.positions_TD[:longest] if places_BT is None else F.embedding(places_BT, self.positions_TD)
        return words_BTD + positions


def _inside(longest: int, lengths_B: Tensor) -> Tensor:
    """[B, 1, T], True where a token is not padding."""
    return (torch.arange(longest, device=lengths_B.device) < lengths_B[:, None])[:, None]
