"""A U-Net that denoises grids of numbers, told the time and a text.

Ronneberger et al. 2015 (arXiv 1505.04597) for the shape; Rombach et al. 2021 (arXiv 2112.10752) for what is in it:
tokens of the text are attended to at every level that `attended` names. Outputs and gradients are those of diffusers'
UNet2DConditionModel. Switches beyond that serve pixel cascades (Saharia et al. 2022, "Imagen", arXiv 2205.11487):
vectors that are added to the time, and a mask of the text's padding.

B batch, C channels, H height, W width, T text tokens, X their width, E width of the time vector, V of an added vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.core.errors import ConfigError, DataError
from diptych.layers.timestep import TimeEmbedding
from diptych.layers.unet_blocks import Down, SpatialTransformer, TimedBlock, Up


@dataclass(frozen=True)
class UNetConfig:
    """Sizes; the defaults are those of Stable Diffusion 1.

    Attributes:
        inputs, outputs: channels of what comes in and goes out.
        channels: of each level, from the outside inwards; the grid is halved between two levels.
        attended: for each level, whether its residual blocks are followed by attention; the middle always is.
        heads: of attention at each level; one number for all of them.
        text: X.
        linear: whether the maps around attention are linear layers, as in Stable Diffusion 2.
        depth: blocks of each attention.
        added: V, width of a vector that is added to the time (a pooled text); 0 for none.
        levels: whether a second time is told: how much noise the picture that is to be enlarged has.
    """

    inputs: int = 4
    outputs: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    attended: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (8,)
    groups: int = 32
    text: int = 768
    linear: bool = False
    depth: int = 1
    added: int = 0
    levels: bool = False

    def __post_init__(self) -> None:
        if not self.channels or min(*self.channels, self.blocks, self.inputs, self.outputs, self.text, self.depth) < 1:
            raise ConfigError(f"channels {self.channels} and every other size of a U-Net must be at least 1")
        if len(self.attended) != len(self.channels) or len(self.heads) not in (1, len(self.channels)):
            raise ConfigError(
                f"a U-Net of {len(self.channels)} levels has {len(self.attended)} entries in attended and "
                f"{len(self.heads)} in heads: give one for each level (or one number of heads for all)"
            )
        for level, width in enumerate(self.channels):
            if width % self.groups or width % self.heads_of(level):
                raise ConfigError(
                    f"{width} channels are not divisible into {self.groups} groups and {self.heads_of(level)} heads"
                )

    def heads_of(self, level: int) -> int:
        """Heads of attention at a level."""
        return self.heads[level if len(self.heads) > 1 else 0]

    @property
    def time(self) -> int:
        """E."""
        return 4 * self.channels[0]


class Told(nn.Module):
    """Everything that is told of the time: the step, and what is added to it."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.channels[0]
        self.step = TimeEmbedding(width, config.time)
        self.level = TimeEmbedding(width, config.time) if config.levels else None
        self.added = nn.Linear(config.added, config.time) if config.added else None

    def forward(self, steps_B: Tensor, added_BV: Tensor | None, levels_B: Tensor | None) -> Tensor:
        """[B, E]."""
        time_BE: Tensor = self.step(steps_B)
        if self.level is not None:
            assert levels_B is not None, "this U-Net is told a noise level"
            time_BE = time_BE + self.level(levels_B)
        if self.added is not None:
            assert added_BV is not None, "this U-Net is told a vector"
            time_BE = time_BE + self.added(added_BV)
        return time_BE


class UNetStep(nn.Module):
    """A residual block, and attention after it where the level has some."""

    def __init__(self, config: UNetConfig, level: int, inputs: int, outputs: int, attends: bool) -> None:
        super().__init__()
        self.block = TimedBlock(inputs, outputs, config.time, config.groups)
        self.attention = (
            SpatialTransformer(outputs, config.heads_of(level), config.text, config.groups, config.depth, config.linear)
            if attends
            else None
        )

    def forward(self, x_BCHW: Tensor, time_BE: Tensor, text_BTX: Tensor, mask_B1T: Tensor | None) -> Tensor:
        x_BCHW = self.block(x_BCHW, time_BE)
        if self.attention is not None:
            x_BCHW = self.attention(x_BCHW, text_BTX, mask_B1T)
        return x_BCHW


class UNet(nn.Module):
    """Down through the levels, a middle, and up again beside what was kept on the way down.

    Attributes:
        checkpointing: recompute each step in the backward pass: memory for time.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        self.told = Told(config)
        self.conv_in = nn.Conv2d(config.inputs, channels[0], 3, padding=1)
        self.down, kept = nn.ModuleList(), [channels[0]]
        width = channels[0]
        for level, wider in enumerate(channels):
            for _ in range(config.blocks):
                self.down.append(UNetStep(config, level, width, wider, config.attended[level]))
                width = wider
                kept.append(width)
            if level < len(channels) - 1:
                self.down.append(Down(width))
                kept.append(width)
        last = len(channels) - 1
        self.middle = UNetStep(config, last, width, width, True)
        self.middle_after = TimedBlock(width, width, config.time, config.groups)
        self.up = nn.ModuleList()
        for level in reversed(range(len(channels))):
            for _ in range(config.blocks + 1):
                self.up.append(UNetStep(config, level, width + kept.pop(), channels[level], config.attended[level]))
                width = channels[level]
            if level:
                self.up.append(Up(width))
        self.norm_out = nn.GroupNorm(config.groups, width, eps=1e-5)
        self.conv_out = nn.Conv2d(width, config.outputs, 3, padding=1)
        self.checkpointing = False

    def forward(
        self, x_BCHW: Tensor, steps_B: Tensor, text_BTX: Tensor, mask_B1T: Tensor | None = None,
        added_BV: Tensor | None = None, levels_B: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """[B, outputs, H, W].

        Args:
            steps_B: of the noise, counted from 0; whole or not.
            text_BTX: the text's tokens.
            mask_B1T: True where a token is no padding; None where all are read.
            added_BV: a vector for each row, where the model has `added`.
            levels_B: the noise of the picture that is enlarged, where the model has `levels`.

        Raises:
            DataError: the grid cannot be halved as often as there are levels.
        """
        self._check(x_BCHW)
        time_BE = self.told(steps_B, added_BV, levels_B)
        x_BCHW = self.conv_in(x_BCHW)
        kept = [x_BCHW]
        for part in self.down:
            x_BCHW = (
                part(x_BCHW) if isinstance(part, Down) else self._through(part, x_BCHW, time_BE, text_BTX, mask_B1T)
            )
            kept.append(x_BCHW)
        x_BCHW = self._through(self.middle, x_BCHW, time_BE, text_BTX, mask_B1T)
        x_BCHW = self.middle_after(x_BCHW, time_BE)
        for part in self.up:
            if isinstance(part, Up):
                x_BCHW = part(x_BCHW, kept[-1].shape[2:])
            else:
                beside = torch.cat([x_BCHW, kept.pop()], dim=1)
                x_BCHW = self._through(part, beside, time_BE, text_BTX, mask_B1T)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x_BCHW)))
        return out

    def _through(
        self, step: nn.Module, x_BCHW: Tensor, time_BE: Tensor, text_BTX: Tensor, mask_B1T: Tensor | None
    ) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(step, x_BCHW, time_BE, text_BTX, mask_B1T, use_reentrant=False)
            return recomputed
        out: Tensor = step(x_BCHW, time_BE, text_BTX, mask_B1T)
        return out

    def _check(self, x_BCHW: Tensor) -> None:
        smallest = 2 ** (len(self.config.channels) - 1)
        if x_BCHW.shape[1] != self.config.inputs or any(side < smallest for side in x_BCHW.shape[2:]):
            raise DataError(
                f"this U-Net takes {self.config.inputs} channels of at least {smallest} x {smallest}, not "
                f"{list(x_BCHW.shape[1:])}"
            )
