"""Feature maps of pictures, from which regions are pooled: a small convolutional network, or a pretrained backbone.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import CheckpointError, ConfigError
from diptych.layers.backbone_folder import backbone_from_config
from diptych.layers.normalise import Normalise
from diptych.layers.pretrained import Tower

_GROUPS = 8


@dataclass(frozen=True)
class ConvMapConfig:
    """A convolutional network trained from scratch.

    Attributes:
        width: channels of the map; half as many after each step back towards the picture.
        halvings: how often the picture is halved: a cell of the map is 2 ** halvings pixels wide.
    """

    width: int = 64
    halvings: int = 2

    def __post_init__(self) -> None:
        first = self.width >> (self.halvings - 1) if self.halvings > 0 else 0
        if first < _GROUPS or first % _GROUPS:
            raise ConfigError(
                f"a map of {self.width} channels after {self.halvings} halvings: give at least one halving, and a "
                f"width that is a multiple of {_GROUPS * 2 ** max(self.halvings - 1, 0)}"
            )


@dataclass(frozen=True)
class BackboneMapConfig:
    """The last feature map of a pretrained convolutional backbone.

    Attributes:
        channels: of its last map.
        trainable: whether it is trained too; else it is frozen in every respect.
    """

    channels: int = 1280
    trainable: bool = False


class ConvMap(nn.Module):
    """Strided convolutions with group norm, a residual one after each: nothing in it depends on the batch."""

    def __init__(self, config: ConvMapConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        widths = [config.width >> step for step in reversed(range(config.halvings))]
        self.steps = nn.Sequential(*(_Halving(a, b) for a, b in zip([3, *widths], widths, strict=False)))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """[B, C, H / 2 ** halvings, W / 2 ** halvings], rounded up, of uint8 or prepared pixels."""
        out: Tensor = self.steps(self.normalise(pixels_BCHW))
        return out


class _Halving(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.norm1 = nn.GroupNorm(_GROUPS, outputs)
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(_GROUPS, outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.down(x_BCHW)))
        return x + F.gelu(self.norm2(self.conv(x)))


class BackboneMap(Tower):
    """The last hidden state of a backbone that has one in two dimensions (MobileNet, ResNet, ConvNeXT).

    Args:
        mean, std: of pixel values in [0, 1], by channel.
    """

    def __init__(self, backbone: nn.Module, trainable: bool, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(backbone, trainable)
        self.normalise = Normalise(mean, std)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """[B, C, H', W'] of uint8 or prepared pixels.

        Raises:
            CheckpointError: the backbone has no feature map.
        """
        hidden: Tensor = self.backbone(pixel_values=self.normalise(pixels_BCHW)).last_hidden_state
        if hidden.ndim != 4:
            raise CheckpointError(
                f"{self.config.model_type} gives tokens and no feature map to pool regions from: take a convolutional "
                f"backbone (MobileNet, ResNet, ConvNeXT)"
            )
        return hidden


def saved_backbone(folder: Path, channels: int, mean: Sequence[float], std: Sequence[float]) -> BackboneMap | None:
    """The frozen backbone that was described in a model's folder, with fresh weights; None of a model without one.

    Args:
        channels: of its map, as the model's configuration says; 0 for no backbone.
    """
    return BackboneMap(backbone_from_config(folder, "vision"), False, mean, std) if channels else None
