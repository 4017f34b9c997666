"""Parti's modules: a frozen image tokenizer, a text encoder, and a decoder that writes a picture's codes.

B batch, T text tokens, X their width, P codes of a picture in raster order, D width of the decoder, K codes there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.small_batch_linear import SmallBatchLinear
from diptych.layers.text_transformer import TextConfig, TextTransformer
from diptych.models.contrastive import clip
from diptych.models.generative._picture_codes import PictureCodes, VitPictures
from diptych.models.image_tokenizer import vit_vqgan


def _encoder() -> TextConfig:
    return TextConfig(16_000, 128, 1024, 12, 16, 4096, causal=False)


def _decoder() -> CausalConfig:
    return CausalConfig(1024, 12, 16, 4096, norm="layer", rotary=0.0, gated=False, bias=True, memory_width=1024)


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes and choices; the defaults are those of the paper's 350 M.

    Attributes:
        reranker: sizes of a contrastive model by which the best of several pictures is kept; None for none.
        drop: share of the samples that are trained without their text, for guidance.
        guidance, temperature: of sampling, where a caller says nothing.
    """

    codes: PictureCodes = field(default_factory=lambda: VitPictures(tokenizer=vit_vqgan.Config.base(), image_size=256))
    text: TextConfig = field(default_factory=_encoder)
    decoder: CausalConfig = field(default_factory=_decoder)
    reranker: clip.Config | None = None
    drop: float = 0.1
    guidance: float = 1.2
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.decoder.memory_width != self.text.width or self.text.causal:
            raise ConfigError(
                f"a decoder that reads a memory of width {self.decoder.memory_width} does not fit a text encoder of "
                f"{self.text.width}, which must not be causal"
            )
        if self.decoder.rotary:
            raise ConfigError("codes stand at learned rows and columns: leave decoder.rotary at 0")
        if not 0 <= self.drop < 1 or self.guidance < 0:
            raise ConfigError(f"drop {self.drop} is a share below 1, and guidance {self.guidance} 0 or more")

    @classmethod
    def tiny(cls, codes: PictureCodes, vocab_size: int = 512) -> Self:
        """Two blocks that read, four that write, of width 96."""
        decoder = CausalConfig(96, 4, 3, 384, norm="layer", rotary=0.0, gated=False, bias=True, memory_width=96)
        return cls(
            codes, TextConfig(vocab_size, 64, 96, 2, 3, 384, causal=False), decoder, guidance=1.5, temperature=0.5
        )

    def with_vocabulary(self, size: int) -> Self:
        """The same sizes for another tokenizer of texts."""
        reranker = None if self.reranker is None else self.reranker.with_vocabulary(size)
        return replace(self, text=replace(self.text, vocab_size=size), reranker=reranker)


class EncodedText(NamedTuple):
    """What the encoder gives of texts; True in the mask where a token is no padding."""

    states_BTX: Tensor
    mask_B1T: Tensor


class Parti(nn.Module):
    """Tokenizer, encoder, decoder, and the contrastive model that ranks, if there is one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, codes = config.decoder.width, config.codes.vocabulary
        rows, columns = config.codes.grid()
        self.config = config
        self.tokenizer = config.codes.build()
        self.text = TextTransformer(config.text)
        self.embedding = nn.Embedding(codes + 1, width)
        self.rows_RD = nn.Parameter(torch.randn(rows, width) * 0.02)
        self.columns_CD = nn.Parameter(torch.randn(columns, width) * 0.02)
        self.decoder = CausalTransformer(config.decoder)
        self.head = SmallBatchLinear(width, codes)
        self.reranker: clip.Clip | None = None
        if config.reranker is not None:
            image = config.codes
            self.reranker = clip.Clip(config.reranker, image.mean, image.std).requires_grad_(requires_grad=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=width**-0.5)

    @property
    def start(self) -> int:
        """The token before the first code."""
        return self.config.codes.vocabulary

    def read(self, tokens_BT: Tensor, lengths_B: Tensor) -> EncodedText:
        """The encoder.

        Raises:
            DataError: a text longer than the context.
        """
        places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        return EncodedText(self.text.tokens(tokens_BT, lengths_B), (places_T < lengths_B[:, None])[:, None])

    def embed(self, codes_BP: Tensor, places_BP: Tensor) -> Tensor:
        """Codes with the row and column of what is to be written next [B, P, D]."""
        columns = len(self.columns_CD)
        positions_BPD = self.rows_RD[places_BP // columns] + self.columns_CD[places_BP % columns]
        out: Tensor = self.embedding(codes_BP) + positions_BPD
        return out

    def forward(self, codes_BP: Tensor, read: EncodedText) -> Tensor:
        """States [B, P, D]: the one at place i is of what stands before code i, which its logits are of."""
        starts_B1 = codes_BP.new_full((len(codes_BP), 1), self.start)
        before_BP = torch.cat([starts_B1, codes_BP[:, :-1]], dim=1)
        places_1P = torch.arange(codes_BP.shape[1], device=codes_BP.device)[None]
        out: Tensor = self.decoder(
            self.embed(before_BP, places_1P), memory_BMC=read.states_BTX, memory_mask_B1M=read.mask_B1T
        )
        return out

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., K]."""
        out: Tensor = self.head(states)
        return out
