"""The encoder of DALL-E's discrete autoencoder, which FLAVA's and BEiT's released codebook is.

Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation", arXiv 2102.12092, appendix A. It only tells codes: the decoder
was released elsewhere.

B batch, C channels, H height, W width, h rows and w columns of the grid of codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError

_GROUPS = 4
_LOGIT_LAPLACE_EPS = 0.1
"""Pixels in [0, 1] are squeezed into [eps, 1 - eps] (appendix A.3: the log-Laplace has no mass at the ends)."""


@dataclass(frozen=True)
class DalleConfig:
    """Sizes.

    Attributes:
        width: of the first group; each of the others but one doubles it.
        blocks: residual blocks a group.
        vocabulary: how many codes there are.
    """

    width: int = 256
    blocks: int = 2
    vocabulary: int = 8192


class DalleBlock(nn.Module):
    """x + gain * path(x), with a 1 x 1 convolution where the width changes; the gain shrinks with the depth."""

    def __init__(self, width_in: int, width_out: int, gain: float) -> None:
        super().__init__()
        inner = width_out // 4
        self.gain = gain
        self.skip = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else None
        kernels = ((width_in, inner, 3), (inner, inner, 3), (inner, inner, 3), (inner, width_out, 1))
        self.path = nn.ModuleList(nn.Conv2d(a, b, kernel, padding=kernel // 2) for a, b, kernel in kernels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = x_BCHW
        for convolution in self.path:
            y_BCHW = convolution(F.relu(y_BCHW))
        skipped = x_BCHW if self.skip is None else self.skip(x_BCHW)
        return skipped + self.gain * y_BCHW


class DalleEncoder(nn.Module):
    """Pictures to grids of codes, a code for 8 x 8 pixels."""

    FACTOR = 8

    def __init__(self, config: DalleConfig) -> None:
        super().__init__()
        self.config = config
        gain = 1 / (_GROUPS * config.blocks) ** 2
        widths = [config.width * times for times in (1, 1, 2, 4, 8)]
        self.enter = nn.Conv2d(3, config.width, 7, padding=3)
        self.groups = nn.ModuleList(
            nn.Sequential(*(DalleBlock(before if i == 0 else after, after, gain) for i in range(config.blocks)))
            for before, after in pairwise(widths)
        )
        self.leave = nn.Conv2d(8 * config.width, config.vocabulary, 1)

    @property
    def vocabulary(self) -> int:
        """How many codes there are."""
        return self.config.vocabulary

    def grid(self, image_size: int) -> tuple[int, int]:
        """Rows and columns of codes of a square picture.

        Raises:
            ConfigError: the size is not divisible by what a code covers.
        """
        if image_size % self.FACTOR:
            raise ConfigError(f"pictures of {image_size} pixels cannot be cut into cells of {self.FACTOR} for codes")
        return image_size // self.FACTOR, image_size // self.FACTOR

    def forward(self, prepared_BCHW: Tensor) -> Tensor:
        """Logits over codes [B, K, h, w] of pixels that are squeezed already."""
        x_BCHW = self.enter(prepared_BCHW)
        for index, group in enumerate(self.groups):
            x_BCHW = group(x_BCHW)
            if index < _GROUPS - 1:
                x_BCHW = F.max_pool2d(x_BCHW, 2)
        out: Tensor = self.leave(F.relu(x_BCHW))
        return out

    @torch.no_grad()
    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        """The likeliest codes [B, h, w], int64.

        Args:
            pixels_BCHW: uint8.
        """
        self.grid(pixels_BCHW.shape[-1])
        share_BCHW = pixels_BCHW.to(self.enter.weight.dtype) / 255
        logits_BVhw: Tensor = self(squeezed(share_BCHW))
        return logits_BVhw.argmax(1)


def squeezed(share_BCHW: Tensor) -> Tensor:
    """Pixels in [0, 1] as the encoder takes them."""
    return share_BCHW * (1 - 2 * _LOGIT_LAPLACE_EPS) + _LOGIT_LAPLACE_EPS
