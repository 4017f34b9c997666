"""CoCa's module: a picture's encoder with two poolers, and a text decoder of two halves.

B batch, N pictures, P patches, Q caption queries, T tokens, D width of the decoder, W of the joint space, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError, DataError
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.feature_map import BackboneMap
from diptych.layers.normalise import Normalise
from diptych.layers.query_pool import QueryPool
from diptych.layers.small_batch_linear import SmallBatchLinear
from diptych.layers.vision_transformer import VisionConfig, VisionTransformer
from diptych.objectives.contrastive import CLIP_SCALE_INIT


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the text decoder.

    Attributes:
        lower: blocks of the half that reads text alone.
        upper: blocks of the half that reads the picture too.
        pad_id: the token that the mask of `text_end` "open_clip" takes for padding.
    """

    vocab_size: int = 64_000
    context: int = 64
    width: int = 768
    lower: int = 6
    upper: int = 6
    heads: int = 12
    hidden: int = 3072
    eps: float = 1e-5
    pad_id: int = 0


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes and switches; the defaults are those of the paper's Base.

    Attributes:
        width: of the joint space.
        queries: of the captioning pooler.
        pooling: "parallel", both poolers read the patches; "cascade", the contrastive one reads the captioning one's
            output (the paper's best); "shared", one pooler for both uses, whose first output is the contrastive one's
            (open_clip's released weights).
        text_end: where the text's vector is read: "after", at a learned token after the last word, which padding does
            not touch; "open_clip", at the end of the padded row, under the mask of open_clip's released weights, which
            stands one place too far to the left.
        reads_apart: whether the upper half reads the picture in blocks of its own, as in open_clip.
    """

    vision: VisionConfig = field(default_factory=lambda: VisionConfig(288, 18, pooling="mean"))
    text: DecoderConfig = field(default_factory=DecoderConfig)
    width: int = 768
    queries: int = 256
    pool_heads: int = 8
    pooling: Literal["parallel", "cascade", "shared"] = "cascade"
    text_end: Literal["after", "open_clip"] = "after"
    reads_apart: bool = False

    def __post_init__(self) -> None:
        if self.queries < 1 or self.text.lower < 1 or self.text.upper < 1:
            raise ConfigError(
                f"CoCa needs caption queries ({self.queries}) and blocks in both halves ({self.text.lower} and "
                f"{self.text.upper}): give 1 or more of each"
            )

    @classmethod
    def base(cls) -> Config:
        """CoCa-Base of the paper: 383 M parameters."""
        return cls()

    @classmethod
    def tiny(cls, vocab_size: int = 512, image_size: int = 64, patch_size: int = 8) -> Config:
        """Trains on a CPU in a few minutes."""
        vision = VisionConfig(image_size, patch_size, width=96, depth=3, heads=3, hidden=384, pooling="mean", eps=1e-5)
        text = DecoderConfig(vocab_size, width=96, lower=2, upper=2, heads=3, hidden=384)
        return cls(vision, text, width=64, queries=16, pool_heads=3)

    def with_vocabulary(self, size: int) -> Config:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))

    def for_texts(self, longest: int, pad_id: int) -> Config:
        """The same for texts of so many tokens at most, which `text_end` "open_clip" reads padded to the longest."""
        if self.text_end == "after":
            return self
        return replace(self, text=replace(self.text, context=longest + 1, pad_id=pad_id))


class Seen(NamedTuple):
    """What a picture becomes.

    Attributes:
        vector_BW: unit vectors, for comparison.
        memory_BQD: what captions are written from.
    """

    vector_BW: Tensor
    memory_BQD: Tensor


class EncodedText(NamedTuple):
    """What a text becomes.

    Attributes:
        vector_BW: unit vectors.
        states_BTD: of the lower half, at the tokens.
    """

    vector_BW: Tensor
    states_BTD: Tensor


class Coca(nn.Module):
    """Encoder, poolers, both halves of the decoder, heads and the log of the scale."""

    def __init__(
        self, config: Config, mean: Sequence[float], std: Sequence[float], backbone: BackboneMap | None = None
    ) -> None:
        super().__init__()
        vision, text = config.vision, config.text
        self.config = config
        self.normalise = Normalise(mean, std)
        self.vision = VisionTransformer(vision, backbone)
        shared = config.pooling == "shared"
        self.caption_pool = QueryPool(text.width, vision.width, config.pool_heads, config.queries + shared)
        self.pool_norm = nn.LayerNorm(text.width, eps=text.eps) if shared else None
        if shared:
            self.vision.norm_post = nn.Identity()
        source = text.width if config.pooling == "cascade" else vision.width
        self.contrast_pool = None if shared else QueryPool(text.width, source, config.pool_heads, 1)
        self.embedding = nn.Embedding(text.vocab_size, text.width)
        self.positions_TD = nn.Parameter(torch.randn(text.context, text.width) * 0.01)
        self.end_D = nn.Parameter(torch.randn(text.width) * 0.01)
        blocks = CausalConfig(
            text.width, text.lower, text.heads, text.hidden, norm="layer", eps=text.eps, rotary=0.0, gated=False,
            bias=True,
        )  # fmt: skip
        self.lower = CausalTransformer(blocks, last_norm=False)
        self.text_norm = nn.LayerNorm(text.width, eps=text.eps)
        self.upper = CausalTransformer(
            replace(blocks, depth=text.upper, memory_width=text.width, memory_apart=config.reads_apart)
        )
        self.word_head = SmallBatchLinear(text.width, text.vocab_size, bias=False)
        self.image_head = nn.Linear(text.width, config.width, bias=False)
        self.text_head = nn.Linear(text.width, config.width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(CLIP_SCALE_INIT))
        nn.init.normal_(self.embedding.weight, std=0.02)
        for head in (self.word_head, self.image_head, self.text_head):
            nn.init.normal_(head.weight, std=text.width**-0.5)

    def see(self, image_BCHW: Tensor) -> Seen:
        """A picture's vector, and what captions are written from, of uint8 or prepared pixels."""
        x_BTC = self.vision.transformer(self.vision.embed(self.normalise(image_BCHW)))
        x_BTC = self.vision.norm_post(x_BTC)
        memory_BQD = self.caption_pool(x_BTC)
        if self.pool_norm is not None:
            both = self.pool_norm(memory_BQD)
            pooled_BD, memory_BQD = both[:, 0], both[:, 1:]
        else:
            assert self.contrast_pool is not None
            pooled_BD = self.contrast_pool(memory_BQD if self.config.pooling == "cascade" else x_BTC)[:, 0]
        return Seen(F.normalize(self.image_head(pooled_BD), dim=-1), memory_BQD)

    def read(self, tokens_BT: Tensor, lengths_B: Tensor) -> EncodedText:
        """The lower half: a text's vector, and its states, which no later token and no padding touches.

        Raises:
            DataError: a text longer than the context.
        """
        x_BTD = self.embed(tokens_BT)
        if self.config.text_end == "open_clip":
            return self._read_as_open_clip(x_BTD, tokens_BT)
        x_BTD = F.pad(x_BTD, (0, 0, 0, 1))
        ends_BT1 = (torch.arange(x_BTD.shape[1], device=x_BTD.device) == lengths_B[:, None])[..., None]
        states_BTD = self.lower(torch.where(ends_BT1, self.end_D.to(x_BTD.dtype), x_BTD))
        at_B1D = lengths_B[:, None, None].expand(-1, 1, states_BTD.shape[-1])
        return EncodedText(self._vector(states_BTD.gather(1, at_B1D)[:, 0]), states_BTD[:, :-1])

    def _read_as_open_clip(self, x_BTD: Tensor, tokens_BT: Tensor) -> EncodedText:
        """The end token in the last place of a row, and a mask of padding that is shifted by one."""
        last_D = self.end_D + self.positions_TD[tokens_BT.shape[1]]
        x_BTD = torch.cat([x_BTD, last_D.expand(len(x_BTD), 1, -1)], dim=1)
        real_BT = F.pad(tokens_BT != self.config.text.pad_id, (1, 0), value=True)
        causal_TT = torch.ones(x_BTD.shape[1], x_BTD.shape[1], dtype=torch.bool, device=x_BTD.device).tril()
        states_BTD = self.lower(x_BTD, mask_BTS=causal_TT & real_BT[:, None])
        return EncodedText(self._vector(states_BTD[:, -1]), states_BTD[:, :-1])

    def _vector(self, end_BD: Tensor) -> Tensor:
        return F.normalize(self.text_head(self.text_norm(end_BD)), dim=-1)

    def embed(self, tokens_BT: Tensor, places_BT: Tensor | None = None) -> Tensor:
        """Tokens with their positions [B, T, D].

        Args:
            places_BT: int64; None for 0, 1, 2 ...

        Raises:
            DataError: a text longer than the context.
        """
        longest, context = tokens_BT.shape[1], self.config.text.context
        if places_BT is None:
            if longest > context:
                raise DataError(f"a text of {longest} tokens is longer than the context of {context}")
            placed = self.positions_TD[:longest]
        else:
            placed = F.embedding(places_BT, self.positions_TD)
        out: Tensor = self.embedding(tokens_BT) + placed
        return out

    def write(self, states_BTD: Tensor, memory_BQD: Tensor) -> Tensor:
        """The upper half [B, T, D], of the lower half's states and a picture's memory; after its last norm."""
        out: Tensor = self.upper(states_BTD, memory_BMC=memory_BQD)
        return out

    def logits(self, states_ND: Tensor) -> Tensor:
        """[N, V] of the next token."""
        out: Tensor = self.word_head(states_ND)
        return out

    def checkpoint_activations(self, on: bool) -> None:
        """Recomputes each block in the backward pass: memory for time."""
        for stack in (self.vision.transformer, self.lower, self.upper):
            stack.checkpointing = on
