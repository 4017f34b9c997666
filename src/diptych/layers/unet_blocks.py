"""The parts of a U-Net that denoises: residual blocks that know the time, attention over positions and over text.

Rombach et al. 2021, arXiv 2112.10752, as in diffusers' UNet2DConditionModel.

B batch, C channels, H height, W width, N positions (H * W), E width of the time vector, T text tokens, X their width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.layers.attention import attend

_EPS = 1e-5


class TimedBlock(nn.Module):
    """Two convolutions, each after a group norm and SiLU, the time added between them; added to their input."""

    def __init__(self, inputs: int, outputs: int, time: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=_EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=_EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x_BCHW: Tensor, time_BE: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW))) + self.time(F.silu(time_BE))[:, :, None, None]
        h_BCHW = self.conv2(F.silu(self.norm2(h_BCHW)))
        out: Tensor = self.shortcut(x_BCHW) + h_BCHW
        return out


class CrossAttention(nn.Module):
    """Positions look at one another, or at a text."""

    def __init__(self, width: int, heads: int, source: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(source, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x_BND: Tensor, source_BTX: Tensor, mask_B1T: Tensor | None = None) -> Tensor:
        """[B, N, D].

        Args:
            mask_B1T: True where a token of the text is no padding; None where all are read.
        """
        k_BTD, v_BTD = self.key_value(source_BTX).chunk(2, dim=-1)
        q, k, v = (self._split(part) for part in (self.query(x_BND), k_BTD, v_BTD))
        out: Tensor = self.out(attend(q, k, v, mask_B1T).transpose(1, 2).flatten(2))
        return out

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.view(*x_BTD.shape[:2], self.heads, x_BTD.shape[2] // self.heads).transpose(1, 2)


class GatedMlp(nn.Module):
    """down(h * gelu(g)) of h, g = up(x) (GEGLU: Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 8 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        raised, gate = self.up(x).chunk(2, dim=-1)
        out: Tensor = self.down(raised * F.gelu(gate))
        return out


class TextBlock(nn.Module):
    """Positions attend to one another, then to the text, then an MLP; each added after a layer norm."""

    def __init__(self, width: int, heads: int, text: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.own = CrossAttention(width, heads, width)
        self.norm2 = nn.LayerNorm(width)
        self.text = CrossAttention(width, heads, text)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = GatedMlp(width)

    def forward(self, x_BND: Tensor, text_BTX: Tensor, mask_B1T: Tensor | None) -> Tensor:
        seen_BND = self.norm1(x_BND)
        x_BND = x_BND + self.own(seen_BND, seen_BND)
        x_BND = x_BND + self.text(self.norm2(x_BND), text_BTX, mask_B1T)
        out: Tensor = x_BND + self.mlp(self.norm3(x_BND))
        return out


class SpatialTransformer(nn.Module):
    """Blocks over the positions of a feature map, added to it.

    Args:
        linear: whether the maps in and out are linear over positions, as in Stable Diffusion 2, or 1 x 1
            convolutions, as in 1: the same sums, in weights of another shape.
    """

    def __init__(self, width: int, heads: int, text: int, groups: int, depth: int = 1, linear: bool = False) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.into: nn.Module = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)
        self.blocks = nn.ModuleList(TextBlock(width, heads, text) for _ in range(depth))
        self.back: nn.Module = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)

    def forward(self, x_BCHW: Tensor, text_BTX: Tensor, mask_B1T: Tensor | None) -> Tensor:
        h_BCHW = self.norm(x_BCHW)
        h_BND = _positions(h_BCHW) if self.linear else _positions(self.into(h_BCHW))
        if self.linear:
            h_BND = self.into(h_BND)
        for block in self.blocks:
            h_BND = block(h_BND, text_BTX, mask_B1T)
        if self.linear:
            return x_BCHW + _as_map(self.back(h_BND), x_BCHW)
        out: Tensor = x_BCHW + self.back(_as_map(h_BND, x_BCHW))
        return out


class Down(nn.Module):
    """A convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.conv(x_BCHW)
        return out


class Up(nn.Module):
    """Every position becomes four equal ones (or as many as fit the given size), then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_BCHW: Tensor, size: torch.Size) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x_BCHW, size=tuple(size), mode="nearest"))
        return out


def _positions(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.flatten(2).transpose(1, 2)


def _as_map(x_BND: Tensor, like_BCHW: Tensor) -> Tensor:
    return x_BND.transpose(1, 2).reshape(len(x_BND), -1, *like_BCHW.shape[2:])
