"""The codes that FLAVA predicts at hidden patches: of a frozen image tokenizer, ours or DALL-E's encoder.

B batch, C channels, H height, W width, h rows and w columns of the grid of codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.dalle_encoder import DalleConfig, DalleEncoder
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.image_tokenizer import vq

Codebook = vq.VqModel | DalleEncoder


@dataclass(frozen=True)
class VqCodes:
    """Codes of our tokenizer, which can make pictures of them again.

    Attributes:
        image_size: of the pictures that the tokenizer is given; they are resized where the model's are of another size.
        mean, std: of the pixels that it was trained on.
    """

    tokenizer: vq.Config = field(default_factory=vq.Config.tiny)
    image_size: int = 64
    mean: tuple[float, float, float] = vq.MEAN
    std: tuple[float, float, float] = vq.STD

    @property
    def vocabulary(self) -> int:
        """How many codes there are."""
        return self.tokenizer.quantizer.codes

    def build(self) -> vq.VqModel:
        """The tokenizer with fresh weights."""
        return vq.VqModel(self.tokenizer, self.mean, self.std)


@dataclass(frozen=True)
class DalleCodes:
    """Codes of DALL-E's encoder, as in the released FLAVA."""

    encoder: DalleConfig = field(default_factory=DalleConfig)
    image_size: int = 112

    @property
    def vocabulary(self) -> int:
        """How many codes there are."""
        return self.encoder.vocabulary

    def build(self) -> DalleEncoder:
        """The encoder with fresh weights."""
        return DalleEncoder(self.encoder)


@dataclass(frozen=True)
class GivenCodes:
    """Codes that a batch brings along, or that nobody needs: no tokenizer is kept.

    Attributes:
        vocabulary: how many codes there are.
    """

    vocabulary: int = 8192


Codes = VqCodes | DalleCodes | GivenCodes


def frozen_codebook(codes: Codes, vision: VisionConfig) -> Codebook | None:
    """The tokenizer, not to be trained.

    Raises:
        ConfigError: its grid of codes is not the grid of patches.
    """
    if isinstance(codes, GivenCodes):
        return None
    codebook = codes.build()
    found, wanted = codebook.grid(codes.image_size), (vision.grid, vision.grid)
    if found != wanted:
        raise ConfigError(
            f"the codebook makes {found[0]} x {found[1]} codes of pictures of {codes.image_size} pixels, and the image "
            f"encoder has {wanted[0]} x {wanted[1]} patches: every patch needs one code, so change the codebook's "
            f"image_size or the patch size"
        )
    return codebook.requires_grad_(False).eval()


@torch.no_grad()
def codes_of(codebook: Codebook, pixels_BCHW: Tensor, image_size: int) -> Tensor:
    """The code of every patch [B, P], int64, raster order; the same at every precision of training.

    Args:
        pixels_BCHW: uint8.
        image_size: of the pictures that the codebook is given.
    """
    with torch.autocast(pixels_BCHW.device.type, enabled=False):
        return codebook.codes(resized(pixels_BCHW, image_size)).flatten(1)


def resized(pixels_BCHW: Tensor, size: int) -> Tensor:
    """uint8 pictures at another size, antialiased."""
    if pixels_BCHW.shape[-1] == size or not len(pixels_BCHW):
        return pixels_BCHW if len(pixels_BCHW) else pixels_BCHW.new_zeros(0, 3, size, size)
    values = F.interpolate(pixels_BCHW.float(), (size, size), mode="bicubic", antialias=True)
    return values.round().clamp(0, 255).to(torch.uint8)
