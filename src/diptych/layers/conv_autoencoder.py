"""The convolutional encoder and decoder of VQGAN and latent diffusion.

Residual blocks, halving and doubling of the picture between stages, attention in the middle.

Esser et al. 2020, "Taming Transformers for High-Resolution Image Synthesis", arXiv 2012.09841, table 7; without
attention inside stages it is the layout of diffusers' VQModel and AutoencoderKL. Every stage but the last halves the
picture, and the decoder mirrors it. Both are one flat list of parts, so each part is a unit of FSDP2 and of
recomputation.

B batch, C channels, H height, W width, N positions (H * W).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.core.errors import ConfigError

_EPS = 1e-6


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of an encoder and its decoder.

    Attributes:
        channels: of each stage, from the picture inwards; a picture is halved between two stages.
        blocks: residual blocks of an encoder's stage; a decoder's stage has one more.
        latent: channels of what the encoder gives and the decoder takes.
        groups: of every group norm.
        attention: whether the middle attends over all positions.
        patch: side of the squares of pixels that are stacked into channels first (and laid out last); 1 for none, as
            in the paper. A square of 2 makes the outermost stage four times cheaper.
        attended: stages, counted from the picture inwards from 0, in which attention follows every residual block.
    """

    channels: tuple[int, ...] = (128, 256, 512)
    blocks: int = 2
    latent: int = 4
    groups: int = 32
    attention: bool = True
    patch: int = 1
    attended: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.channels or min(*self.channels, self.blocks, self.latent, self.patch) < 1:
            raise ConfigError(f"channels {self.channels}, blocks, latent and patch must be given, each at least 1")
        if wrong := [width for width in self.channels if width % self.groups]:
            raise ConfigError(
                f"{wrong[0]} channels are not divisible into {self.groups} groups: change autoencoder.groups"
            )
        if wrong := [stage for stage in self.attended if not 0 <= stage < len(self.channels)]:
            raise ConfigError(
                f"autoencoder.attended names stage {wrong[0]}: there are stages 0 to {len(self.channels) - 1}"
            )

    @property
    def factor(self) -> int:
        """By how much a side of the picture is longer than a side of the latent grid."""
        return int(self.patch * 2 ** (len(self.channels) - 1))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the latent grid.

        Raises:
            ConfigError: the picture's sides are not divisible by `factor`.
        """
        if height % self.factor or width % self.factor or min(height, width) < 1:
            raise ConfigError(
                f"a picture of {height} x {width} pixels cannot be cut into cells of {self.factor} x {self.factor}: "
                f"choose an image size that is divisible by {self.factor}"
            )
        return height // self.factor, width // self.factor


class ResidualBlock(nn.Module):
    """Two convolutions, each after a group norm and SiLU, added to their input; a fresh one adds nothing."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=_EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=_EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        h_BCHW = self.conv2(F.silu(self.norm2(h_BCHW)))
        out: Tensor = self.shortcut(x_BCHW) + h_BCHW
        return out


class SpatialAttention(nn.Module):
    """One head over all positions, after a group norm, added to its input."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BNC = self.norm(x_BCHW).flatten(2).transpose(1, 2)
        q, k, v = (part[:, None] for part in self.qkv(h_BNC).chunk(3, dim=-1))
        h_BNC = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])
        out: Tensor = x_BCHW + h_BNC.transpose(1, 2).unflatten(2, x_BCHW.shape[2:])
        return out


class Halve(nn.Module):
    """A convolution of stride 2; the picture is padded at its right and lower edge only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))
        return out


class Double(nn.Module):
    """Every position becomes four equal ones, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))
        return out


class _Parts(nn.Module):
    """A convolution in, a list of parts, a norm and a convolution out.

    Attributes:
        checkpointing: recompute each part in the backward pass: memory for time.
    """

    def __init__(
        self, inputs: int, widths: tuple[int, int], outputs: int, groups: int, parts: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.parts = nn.ModuleList(parts)
        self.norm_out = nn.GroupNorm(groups, widths[1], eps=_EPS)
        self.conv_out = nn.Conv2d(widths[1], outputs, 3, padding=1)
        self.checkpointing = False

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_BCHW)
        for part in self.parts:
            if self.checkpointing and torch.is_grad_enabled():
                x_BCHW = checkpoint(part, x_BCHW, use_reentrant=False)
            else:
                x_BCHW = part(x_BCHW)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x_BCHW)))
        return out


class ConvEncoder(_Parts):
    """Pictures [B, 3, H, W] -> [B, outputs, H / factor, W / factor]; `outputs` is `latent` unless it is given."""

    def __init__(self, config: AutoencoderConfig, outputs: int | None = None, colours: int = 3) -> None:
        ends = (config.channels[0], config.channels[-1])
        super().__init__(
            colours * config.patch**2, ends, outputs or config.latent, config.groups, list(_encoder_parts(config))
        )
        self.patch = config.patch

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(F.pixel_unshuffle(x_BCHW, self.patch) if self.patch > 1 else x_BCHW)


class ConvDecoder(_Parts):
    """Latents [B, latent, h, w] -> pictures [B, 3, h * factor, w * factor]."""

    def __init__(self, config: AutoencoderConfig, colours: int = 3) -> None:
        ends = (config.channels[-1], config.channels[0])
        super().__init__(config.latent, ends, colours * config.patch**2, config.groups, list(_decoder_parts(config)))
        self.patch = config.patch

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out_BCHW = super().forward(x_BCHW)
        return F.pixel_shuffle(out_BCHW, self.patch) if self.patch > 1 else out_BCHW


def _encoder_parts(config: AutoencoderConfig) -> Iterator[nn.Module]:
    width = config.channels[0]
    for stage, wider in enumerate(config.channels):
        for _ in range(config.blocks):
            yield ResidualBlock(width, wider, config.groups)
            width = wider
            if stage in config.attended:
                yield SpatialAttention(width, config.groups)
        if stage < len(config.channels) - 1:
            yield Halve(width)
    yield from _middle(config)


def _decoder_parts(config: AutoencoderConfig) -> Iterator[nn.Module]:
    yield from _middle(config)
    width = config.channels[-1]
    for stage, narrower in enumerate(reversed(config.channels)):
        for _ in range(config.blocks + 1):
            yield ResidualBlock(width, narrower, config.groups)
            width = narrower
            if len(config.channels) - 1 - stage in config.attended:
                yield SpatialAttention(width, config.groups)
        if stage < len(config.channels) - 1:
            yield Double(width)


def _middle(config: AutoencoderConfig) -> Iterator[nn.Module]:
    width = config.channels[-1]
    yield ResidualBlock(width, width, config.groups)
    if config.attention:
        yield SpatialAttention(width, config.groups)
    yield ResidualBlock(width, width, config.groups)
