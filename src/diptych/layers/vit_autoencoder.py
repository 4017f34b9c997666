"""A vision transformer that makes a grid of vectors of a picture, and one that makes a picture of such a grid.

Yu et al. 2021, "Vector-quantized Image Modeling with Improved VQGAN" (ViT-VQGAN), arXiv 2110.04627, section 3.1:
patches that do not overlap, mapped linearly; learned positions; blocks before which the norm stands; no class token;
an output map of two layers with tanh between them.

B batch, C channels, H height, W width, P patches, D width, h rows and w columns of patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.layers.pixel_patches import unpatchify
from diptych.layers.transformer import Transformer
from diptych.layers.vision_transformer import PatchEmbedding, interpolate_positions


@dataclass(frozen=True)
class VitConfig:
    """Sizes of an encoder and its decoder.

    Attributes:
        image_size: side of the square pictures that the positions are learned for.
        patch_size: side of a patch, which is a place of the grid.
        hidden: width of the MLPs.
    """

    image_size: int = 256
    patch_size: int = 8
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image size {self.image_size} is not divisible by patch size {self.patch_size}: "
                f"try {self.image_size // self.patch_size * self.patch_size or self.patch_size}"
            )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches.

        Raises:
            ConfigError: the picture's sides are not divisible by that of a patch.
        """
        if height % self.patch_size or width % self.patch_size or min(height, width) < 1:
            raise ConfigError(
                f"a picture of {height} x {width} pixels cannot be cut into patches of {self.patch_size}: choose an "
                f"image size that is divisible by {self.patch_size}"
            )
        return height // self.patch_size, width // self.patch_size


class _Blocks(nn.Module):
    """Positions, blocks, a last norm."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.side = config.image_size // config.patch_size
        self.positions_PD = nn.Parameter(torch.randn(self.side**2, config.width) * config.width**-0.5)
        self.transformer = Transformer(config.width, config.depth, config.heads, config.hidden, eps=1e-6)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, x_BPD: Tensor, rows: int, columns: int) -> Tensor:
        positions_PD: Tensor = self.positions_PD
        if (rows, columns) != (self.side, self.side):
            positions_PD = interpolate_positions(positions_PD, self.side, rows, columns)
        out: Tensor = self.norm(self.transformer(x_BPD + positions_PD))
        return out


class VitEncoder(nn.Module):
    """Prepared pictures [B, 3, H, W] -> vectors [B, outputs, h, w]."""

    def __init__(self, config: VitConfig, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(config.patch_size, config.width, bias=True)
        self.blocks = _Blocks(config)
        self.leave = _output_map(config, outputs)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        rows, columns = self.config.grid(*pixels_BCHW.shape[2:])
        found_BPC = self.leave(self.blocks(self.patches(pixels_BCHW), rows, columns))
        out: Tensor = found_BPC.transpose(1, 2).unflatten(2, (rows, columns))
        return out


class VitDecoder(nn.Module):
    """Vectors [B, inputs, h, w] -> maps [B, channels, H, W] of the picture's size."""

    def __init__(self, config: VitConfig, inputs: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(inputs, config.width)
        self.blocks = _Blocks(config)
        self.leave = _output_map(config, channels * config.patch_size**2)

    @property
    def last_weight(self) -> Tensor:
        """Of the last layer before the pixels."""
        last = self.leave[-1]
        assert isinstance(last, nn.Linear)
        return last.weight

    def forward(self, vectors_BChw: Tensor) -> Tensor:
        rows, columns = vectors_BChw.shape[2:]
        x_BPD = self.enter(vectors_BChw.flatten(2).transpose(1, 2))
        return unpatchify(self.leave(self.blocks(x_BPD, rows, columns)), self.config.patch_size, rows, columns)


def _output_map(config: VitConfig, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(config.width, config.hidden), nn.Tanh(), nn.Linear(config.hidden, outputs))
