"""FLAVA's three encoders and its heads; all blocks are pre-norm.

Unimodal states leave an encoder twice: before its last norm for the multimodal encoder, and after it for everything
else (the norm belongs to the unimodal outputs, as in the released model).

B batch, N rows read at all positions, M rows read at the first alone, T tokens, P patches, I states of an image, S of
both sides, V vocabulary, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.core.errors import DataError
from diptych.layers.backbone_patches import BackbonePatches
from diptych.layers.feature_map import BackboneMap
from diptych.layers.length_buckets import in_length_buckets, most_buckets
from diptych.layers.pixel_patches import covered
from diptych.layers.text_transformer import TextConfig
from diptych.layers.transformer import Activation, Transformer
from diptych.layers.vision_transformer import VisionConfig, VisionTransformer

INITIAL_STD = 0.02
"""Of embeddings and heads, as in the released code."""


@dataclass(frozen=True)
class FusionConfig:
    """Sizes of the multimodal encoder."""

    width: int = 768
    depth: int = 6
    heads: int = 12
    hidden: int = 3072
    activation: Activation = Activation.GELU
    eps: float = 1e-12


class ImageStates(NamedTuple):
    """What the image encoder gives.

    Attributes:
        states_NTD: of all positions, before the last norm.
        first_MD: of the first position (CLS) of the other rows, after it.
    """

    states_NTD: Tensor
    first_MD: Tensor


class ImageEncoder(VisionTransformer):
    """A vision transformer in which hidden patches are a learned vector: nothing of their pixels goes in.

    Cells of a backbone see their neighbours' pixels, so there hidden patches are also covered in the picture.
    """

    def __init__(self, config: VisionConfig, backbone: BackboneMap | None = None) -> None:
        super().__init__(config, backbone)
        self.mask_D = nn.Parameter(torch.randn(config.width) * INITIAL_STD)

    def states(self, image_BCHW: Tensor, hidden_BP: Tensor, whole: int) -> ImageStates:
        """The first `whole` rows at all positions, CLS first; the others at CLS.

        Args:
            hidden_BP: bool, True where a patch is hidden.
        """
        size = self.config.patch_size
        if isinstance(self.patches, BackbonePatches):
            image_BCHW = covered(image_BCHW, hidden_BP, size)
        x_BPD = self.patches(image_BCHW)
        x_BPD = torch.where(hidden_BP[..., None], self.mask_D.to(x_BPD.dtype), x_BPD)
        x_BTD = self.placed(x_BPD, image_BCHW.shape[-2] // size, image_BCHW.shape[-1] // size)
        states_NTD, first_MD = self.transformer.partly_pooled(x_BTD, whole)
        return ImageStates(states_NTD, self.norm_post(first_MD))


class TextEncoder(nn.Module):
    """BERT's embeddings, and blocks in which every token sees every other one."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions_TD = nn.Parameter(torch.randn(config.context, config.width) * INITIAL_STD)
        self.norm_pre = nn.LayerNorm(config.width, eps=config.eps)
        self.transformer = Transformer(
            config.width, config.depth, config.heads, config.hidden, config.activation, config.eps
        )
        self.norm_post = nn.LayerNorm(config.width, eps=config.eps)
        nn.init.normal_(self.embedding.weight, std=INITIAL_STD)

    def embedded(self, tokens_BT: Tensor) -> Tensor:
        """What the blocks read [B, T, D]: for a whole batch at once, since every lookup has a gradient of its own size.

        Raises:
            DataError: a text longer than the context.
        """
        longest = tokens_BT.shape[1]
        if longest > self.config.context:
            raise DataError(f"a text of {longest} tokens is longer than the context of {self.config.context}")
        out: Tensor = self.norm_pre(self.embedding(tokens_BT) + self.positions_TD[:longest])
        return out

    def states(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """All positions [B, T, D] of embedded texts, before the last norm; on padding they have no meaning."""
        out: Tensor = self.transformer(x_BTD, inside(x_BTD.shape[1], lengths_B))
        return out

    def first(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """The vectors [B, D] at the first token of embedded texts, after the last norm, with little padding."""
        if not len(x_BTD):
            return self._first(x_BTD, lengths_B)
        return in_length_buckets(self._first, x_BTD, lengths_B, most_buckets(self))

    def _first(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        mask_B1T = inside(x_BTD.shape[1], lengths_B)
        out: Tensor = self.norm_post(self.transformer.pooled(x_BTD, torch.zeros_like(lengths_B), mask_B1T))
        return out


class FusionEncoder(nn.Module):
    """Self-attention over a class token, all states of the picture (its CLS first) and all states of the text."""

    def __init__(self, config: FusionConfig, image_width: int, text_width: int) -> None:
        super().__init__()
        self.image_map = nn.Linear(image_width, config.width)
        self.text_map = nn.Linear(text_width, config.width)
        self.cls_D = nn.Parameter(torch.randn(config.width) * INITIAL_STD)
        self.transformer = Transformer(
            config.width, config.depth, config.heads, config.hidden, config.activation, config.eps
        )
        self.norm_post = nn.LayerNorm(config.width, eps=config.eps)

    def forward(
        self, image_NID: Tensor, text_NTD: Tensor, lengths_N: Tensor, places_NM: Tensor | None = None
    ) -> Tensor:
        """States [N, 1 + I + T, D] before the last norm; padding of the text is seen by nobody.

        Args:
            image_NID, text_NTD: states before the last norm of their encoders.
            places_NM: int64, the only states that are wanted: [N, M, D].
        """
        image, text = self.image_map(image_NID), self.text_map(text_NTD)
        cls = self.cls_D.to(image.dtype).expand(len(image), 1, -1)
        x_NSD = torch.cat([cls, image, text.to(image.dtype)], dim=1)
        seen = 1 + image.shape[1]
        mask_N1S = inside(x_NSD.shape[1], lengths_N + seen)
        if places_NM is not None:
            return self.transformer.at(x_NSD, places_NM, mask_N1S)
        out: Tensor = self.transformer(x_NSD, mask_N1S)
        return out


class PredictionHead(nn.Module):
    """What stands at a hidden place: BERT's head, its output matrix not tied to the embeddings."""

    def __init__(self, width: int, vocabulary: int, activation: Activation, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder = nn.Linear(width, vocabulary)
        self.activation = activation
        for linear in (self.dense, self.decoder):
            nn.init.normal_(linear.weight, std=INITIAL_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Logits [N, V]."""
        out: Tensor = self.decoder(self.norm(self.activation(self.dense(x_ND))))
        return out


class MatchingHead(nn.Module):
    """Whether a text belongs to a picture, from the multimodal class token: logits [N, 2] of "no" and "yes"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.answer = nn.Linear(width, 2)
        for linear in (self.dense, self.answer):
            nn.init.normal_(linear.weight, std=INITIAL_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, cls_ND: Tensor) -> Tensor:
        out: Tensor = self.answer(torch.tanh(self.dense(cls_ND)))
        return out


def inside(longest: int, lengths_B: Tensor) -> Tensor:
    """[B, 1, T], True where a position is not padding."""
    return (torch.arange(longest, device=lengths_B.device) < lengths_B[:, None])[:, None]
