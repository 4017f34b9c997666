"""Frozen networks whose features say how alike two pictures look.

Two kinds. `RandomFeatures` is a convolutional network with random weights, the same ones always: it needs no download.
`BackboneFeatures` are all feature maps of a pretrained backbone from a `transformers` folder. LPIPS (Zhang et al. 2018,
arXiv 1801.03924) is neither: it weighs the channels of a pretrained VGG by what people said, and those weights are not
here.

Neither is a part of what is trained, wrapped or saved: what they are follows from a seed or a folder.

B batch, C channels, H height, W width, P positions (H * W, or tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import CheckpointError
from diptych.layers.backbone_folder import read_backbone
from diptych.layers.pretrained import Tower

_SEED = 20180111


class PerceptualNetwork(Protocol):
    """What a perceptual distance asks of a network: a module whose call gives features of every depth."""

    def __call__(self, pixels_BCHW: Tensor) -> list[Tensor]: ...


class RandomFeatures(nn.Module):
    """Three-by-three convolutions with ReLU, halved between two; weights by He's rule from a fixed seed.

    Args:
        widths: channels after each convolution.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_SEED)
        self.depth = len(widths)
        for index, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
            weight = torch.randn(after, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
            self.register_buffer(f"weight{index}", weight, persistent=False)

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """A map [B, C, P] for every convolution, of prepared pixels."""
        maps = []
        for index in range(self.depth):
            pixels_BCHW = F.relu(F.conv2d(pixels_BCHW, self.get_buffer(f"weight{index}"), padding=1))
            maps.append(pixels_BCHW.flatten(2))
            pixels_BCHW = F.avg_pool2d(pixels_BCHW, 2)
        return maps


class BackboneFeatures(nn.Module):
    """The hidden states of a pretrained image backbone: maps (ResNet, ConvNeXT, MobileNet) or tokens (ViT).

    Args:
        backbone: takes `pixel_values` and gives `hidden_states`.
        mean, std: of the pixels that the backbone expects, values in [0, 1].
        prepared_mean, prepared_std: of the pixels that it is given.
    """

    shift_C11: Tensor
    scale_C11: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        prepared_mean: Sequence[float] = (0.5, 0.5, 0.5),
        prepared_std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        # In a tuple, so that wrappers and checkpoints do not see it: every process reads the same folder.
        self._held = (Tower(backbone, trainable=False),)
        given, wanted = (
            [torch.tensor(x)[:, None, None] for x in pair] for pair in ((prepared_mean, prepared_std), (mean, std))
        )
        self.register_buffer("scale_C11", given[1] / wanted[1], persistent=False)
        self.register_buffer("shift_C11", (given[0] - wanted[0]) / wanted[1], persistent=False)

    @classmethod
    def read(cls, folder: Path, mean: Sequence[float], std: Sequence[float]) -> BackboneFeatures:
        """The features of a `transformers` folder.

        Raises:
            CheckpointError: it is no model, or a damaged one.
            MissingExtra: transformers is not installed.
        """
        return cls(read_backbone(folder, "vision"), mean, std)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts what is held along with the module."""
        self._held[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """Hidden states [B, C, P] of every depth.

        Raises:
            CheckpointError: the backbone gives none.
        """
        found = (
            self._held[0]
            .backbone(pixel_values=pixels_BCHW * self.scale_C11 + self.shift_C11, output_hidden_states=True)
            .hidden_states
        )
        if not found:
            raise CheckpointError(f"{self._held[0].config.model_type} gives no hidden states: take another backbone")
        return [one.flatten(2) if one.ndim == 4 else one.transpose(1, 2) for one in found]
