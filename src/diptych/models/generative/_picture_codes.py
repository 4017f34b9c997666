"""Pictures as codes of a frozen image tokenizer, for models that write them like words.

B batch, H height, W width, P codes of a picture in raster order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from diptych.models.image_tokenizer import vit_vqgan, vq
from diptych.models.image_tokenizer._chameleon import ChameleonConfig, VqEncoder

TokenizerModule = vq.VqModel | vit_vqgan.VitVqModel | VqEncoder


@dataclass(frozen=True, kw_only=True)
class _Pictures:
    """Which pictures are coded, and made.

    Attributes:
        image_size: their side.
        mean, std: of the pixels that the tokenizer was trained on.
    """

    image_size: int = 64
    mean: tuple[float, float, float] = vq.MEAN
    std: tuple[float, float, float] = vq.STD


@dataclass(frozen=True, kw_only=True)
class VqPictures(_Pictures):
    """By convolutions (vq.py)."""

    tokenizer: vq.Config = field(default_factory=vq.Config.tiny)

    @property
    def vocabulary(self) -> int:
        """How many codes there are."""
        return self.tokenizer.quantizer.codes

    def build(self) -> vq.VqModel:
        """The tokenizer with fresh weights, which are not trained."""
        return vq.VqModel(self.tokenizer, self.mean, self.std).requires_grad_(requires_grad=False).eval()

    def grid(self) -> tuple[int, int]:
        """Rows and columns of a picture's codes.

        Raises:
            ConfigError: the size is not divisible by what a code covers.
        """
        return self.tokenizer.autoencoder.grid(self.image_size, self.image_size)


@dataclass(frozen=True, kw_only=True)
class VitPictures(_Pictures):
    """By vision transformers (vit_vqgan.py)."""

    tokenizer: vit_vqgan.Config = field(default_factory=vit_vqgan.Config.tiny)

    @property
    def vocabulary(self) -> int:
        """How many codes there are."""
        return self.tokenizer.quantizer.codes

    def build(self) -> vit_vqgan.VitVqModel:
        """The tokenizer with fresh weights, which are not trained."""
        return vit_vqgan.VitVqModel(self.tokenizer, self.mean, self.std).requires_grad_(requires_grad=False).eval()

    def grid(self) -> tuple[int, int]:
        """Rows and columns of a picture's codes.

        Raises:
            ConfigError: the size is not divisible by what a code covers.
        """
        return self.tokenizer.vit.grid(self.image_size, self.image_size)


@dataclass(frozen=True, kw_only=True)
class EncodedPictures(_Pictures):
    """By Chameleon's encoder as transformers has it, without a decoder: pictures are read, and none is made."""

    tokenizer: ChameleonConfig = field(default_factory=ChameleonConfig)

    @property
    def vocabulary(self) -> int:
        """How many codes there are."""
        return self.tokenizer.quantizer.codes

    def build(self) -> VqEncoder:
        """The tokenizer with fresh weights, which are not trained."""
        return VqEncoder(self.tokenizer, self.mean, self.std).requires_grad_(requires_grad=False).eval()

    def grid(self) -> tuple[int, int]:
        """Rows and columns of a picture's codes.

        Raises:
            ConfigError: the size is not divisible by what a code covers.
        """
        return self.tokenizer.autoencoder.grid(self.image_size, self.image_size)


PictureCodes = VqPictures | VitPictures | EncodedPictures


@torch.no_grad()
def codes_of(tokenizer: TokenizerModule, pixels_BCHW: Tensor) -> Tensor:
    """The codes [B, P] of uint8 pictures; the same at every precision of training."""
    with torch.autocast(pixels_BCHW.device.type, enabled=False):
        return tokenizer.codes(pixels_BCHW).flatten(1)
