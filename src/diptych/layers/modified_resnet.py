"""CLIP's ResNet tower (Radford et al. 2021, arXiv 2103.00020, section 2.4): ResNet-D with three changes.

Three 3x3 convolutions and an average pool are the stem; what has a stride elsewhere is an average pool before a
convolution without one, which does not alias (Zhang 2019, arXiv 1904.11486); and the last map is read by attention,
whose one query is the mean of the map. The linear map behind that attention is CLIP's image head.

Batch norm has the statistics of the global batch over processes. Its statistics tie the samples of a pass to one
another, so a batch cannot be cut into micro-batches without changing the result.

B batch, C channels, H height, W width, P places of the last map, T places and their mean, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.attention import attend
from diptych.layers.gathered_batch_norm import GatheredBatchNorm2d
from diptych.layers.vision_transformer import interpolate_positions

SHRINKS = 32
"""Pixels along a side for each place of the last map."""
_EXPANSION = 4


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a ResNet tower.

    Attributes:
        image_size: side of the square picture that the positions of the attention pool are learned for.
        stem: channels after the stem.
        blocks: of each of the four groups.
        heads: of the attention pool.
    """

    image_size: int = 224
    stem: int = 64
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    heads: int = 32

    def __post_init__(self) -> None:
        if self.image_size % SHRINKS or self.image_size < SHRINKS:
            near = max(round(self.image_size / SHRINKS), 1) * SHRINKS
            raise ConfigError(
                f"a ResNet takes pictures of a multiple of {SHRINKS} pixels, not {self.image_size}: try {near}"
            )
        if self.stem % 2 or self.width % self.heads:
            raise ConfigError(
                f"{self.stem} channels after the stem: give an even number, of which {self.heads} heads divide 32 times"
            )

    @property
    def width(self) -> int:
        """Of the picture's vector."""
        return self.stem * 32

    @property
    def grid(self) -> int:
        """Places along a side of the last map."""
        return self.image_size // SHRINKS


class ConvNorm(nn.Module):
    """A convolution without a bias, and batch norm."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = GatheredBatchNorm2d(out)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(maps_BCHW))
        return out


class Bottleneck(nn.Module):
    """x + three convolutions of it; average pools do the striding, on both ways."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out = inner * _EXPANSION
        self.stride = stride
        self.narrow = ConvNorm(channels, inner, 1)
        self.middle = ConvNorm(inner, inner, 3)
        self.widen = ConvNorm(inner, out, 1)
        self.shortcut = ConvNorm(channels, out, 1) if stride > 1 or channels != out else None
        nn.init.zeros_(self.widen.norm.weight)  # at first a block passes on what it is given

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        inner_BCHW = F.relu(self.middle(F.relu(self.narrow(maps_BCHW))))
        added: Tensor = self.widen(self._pooled(inner_BCHW))
        passed: Tensor = maps_BCHW if self.shortcut is None else self.shortcut(self._pooled(maps_BCHW))
        return F.relu(added + passed)

    def _pooled(self, maps_BCHW: Tensor) -> Tensor:
        return F.avg_pool2d(maps_BCHW, self.stride) if self.stride > 1 else maps_BCHW


class MeanQueryPool(nn.Module):
    """Attention whose query is the mean of the map; the mean is among the keys too."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        width, scale = config.width, config.width**-0.5
        self.heads, self.grid = config.heads, config.grid
        self.positions_TD = nn.Parameter(torch.randn(1 + config.grid**2, width) * scale)
        self.qkv = nn.Linear(width, 3 * width)
        nn.init.normal_(self.qkv.weight, std=scale)

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """[B, D], before any output map."""
        places_BPD = maps_BDHW.flatten(2).transpose(1, 2)
        x_BTD = torch.cat([places_BPD.mean(1, keepdim=True), places_BPD], dim=1) + self._positions(*maps_BDHW.shape[2:])
        width = x_BTD.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        q_B1D = F.linear(x_BTD[:, :1], weight[:width], bias[:width])
        k_BTD, v_BTD = F.linear(x_BTD, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = (t.reshape(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in (q_B1D, k_BTD, v_BTD))
        return attend(q, k, v, None).transpose(1, 2).flatten(2)[:, 0]

    def _positions(self, rows: int, columns: int) -> Tensor:
        if rows == columns == self.grid:
            return self.positions_TD
        resized = interpolate_positions(self.positions_TD[1:], self.grid, rows, columns)
        return torch.cat([self.positions_TD[:1], resized])


class ModifiedResNet(nn.Module):
    """The stem, four groups of blocks, and one vector a picture."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        stem = config.stem
        self.stem = nn.ModuleList(
            [ConvNorm(3, stem // 2, 3, stride=2), ConvNorm(stem // 2, stem // 2, 3), ConvNorm(stem // 2, stem, 3)]
        )
        self.blocks = nn.ModuleList()
        channels = stem
        for group, count in enumerate(config.blocks):
            for index in range(count):
                stride = 2 if group and not index else 1
                self.blocks.append(Bottleneck(channels, stem * 2**group, stride))
                channels = stem * 2**group * _EXPANSION
        self.pool = MeanQueryPool(config)

    def forward(self, image_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """One vector [B, D] a picture.

        Args:
            kept_BK: None: a map has no patches that could be left out.
        """
        assert kept_BK is None, "a ResNet sees the whole picture"
        maps_BCHW = image_BCHW
        for layer in self.stem:
            maps_BCHW = F.relu(layer(maps_BCHW))
        maps_BCHW = F.avg_pool2d(maps_BCHW, 2)
        for block in self.blocks:
            maps_BCHW = block(maps_BCHW)
        out: Tensor = self.pool(maps_BCHW)
        return out
