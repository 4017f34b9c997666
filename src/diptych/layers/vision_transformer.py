"""The vision transformer (Dosovitskiy et al. 2020, arXiv 2010.11929): patches as words.

Patches may be left out (patch masking, FLIP, arXiv 2212.00794): they are dropped before the first matrix product, so
that they cost nothing, and those that are kept keep their own positions.

B batch, C channels, H height, W width, P patches, K kept patches or class tokens, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.attention import attend
from diptych.layers.backbone_patches import BackbonePatches
from diptych.layers.feature_map import BackboneMap
from diptych.layers.pixel_patches import patchify
from diptych.layers.transformer import Activation, Mlp, Transformer

Pooling = Literal["cls", "mean", "map"]


@dataclass(frozen=True)
class VisionConfig:
    """Sizes and switches of a vision transformer.

    Attributes:
        image_size: side of the square picture that the positions are learned for.
        patch_size: side of a patch; it must divide the image size.
        hidden: width of the MLPs.
        pooling: "cls" (ViT, CLIP), "mean" over patches, or "map", attention of one learned query (SigLIP).
        pre_norm: a layer norm between embeddings and blocks (CLIP).
        patch_bias: whether the patch embedding has a bias (CLIP's has none).
        eps: of the layer norms.
        class_tokens: how many tokens are learned beside the patches where the pooling is "cls"; each has its own
            vector and its own row of positions (Llip's mixture tokens).
        backbone_channels: of the feature map of a pretrained backbone, whose cells take the place of patches and whose
            stride is the patch size; 0 for patches that are learned.
    """

    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    pooling: Pooling = "cls"
    pre_norm: bool = False
    patch_bias: bool = True
    activation: Activation = Activation.GELU
    eps: float = 1e-6
    class_tokens: int = 1
    backbone_channels: int = 0

    def __post_init__(self) -> None:
        if self.class_tokens < 1 or (self.class_tokens > 1 and self.pooling != "cls"):
            raise ConfigError(
                f"class_tokens {self.class_tokens} with pooling '{self.pooling}': give 1 or more with 'cls', and leave "
                f"it at 1 with another pooling, which reads the patches"
            )
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image size {self.image_size} is not divisible by patch size {self.patch_size}: "
                f"try {self.image_size // self.patch_size * self.patch_size or self.patch_size}"
            )

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def special(self) -> int:
        """Tokens that are no patches."""
        return self.class_tokens if self.pooling == "cls" else 0


class PatchEmbedding(nn.Module):
    """Non-overlapping patches, each mapped linearly: a convolution with stride = kernel, as one matrix product."""

    def __init__(self, patch_size: int, width: int, bias: bool) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight = nn.Parameter(torch.empty(width, 3, patch_size, patch_size))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        nn.init.normal_(self.weight, std=(3 * patch_size**2) ** -0.5)

    def forward(self, image_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """[B, P, D], patches in raster order, or [B, K, D], those that are kept.

        Args:
            kept_BK: int64 places in raster order; None for all.

        Raises:
            ConfigError: a side is not divisible by the patch size.
        """
        patches_BPC = patchify(image_BCHW, self.patch_size)
        if kept_BK is not None:
            patches_BPC = taken(patches_BPC, kept_BK)
        return F.linear(patches_BPC, self.weight.flatten(1), self.bias)


class AttentionPool(nn.Module):
    """SigLIP's multi-head attention pooling (MAP): one learned query over the tokens, then an MLP with a residual."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.probe_D = nn.Parameter(torch.randn(width) * width**-0.5)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.mlp = Mlp(width, config.hidden, config.activation)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier, as SigLIP's released code: at torch's smaller default the pooled vectors hardly differ at first."""
        maps = [*self.qkv.weight.data.chunk(3), self.out.weight, self.mlp.up.weight, self.mlp.down.weight]
        for weight in maps:
            nn.init.xavier_uniform_(weight)
        for linear in (self.qkv, self.out, self.mlp.up, self.mlp.down):
            nn.init.zeros_(linear.bias)

    def forward(self, x_BPD: Tensor) -> Tensor:
        width = x_BPD.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        q_B1D = F.linear(self.probe_D.expand(x_BPD.shape[0], 1, width), weight[:width], bias[:width])
        k_BPD, v_BPD = F.linear(x_BPD, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = (t.reshape(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in (q_B1D, k_BPD, v_BPD))
        pooled_BD = self.out(attend(q, k, v, None).transpose(1, 2).flatten(2))[:, 0]
        out: Tensor = pooled_BD + self.mlp(self.norm(pooled_BD))
        return out


class VisionTransformer(nn.Module):
    """Patches, positions, blocks, and one vector a picture."""

    def __init__(self, config: VisionConfig, backbone: BackboneMap | None = None) -> None:
        super().__init__()
        self.config = config
        width, special, scale = config.width, config.special, config.width**-0.5
        self.patches = _patches(config, backbone)
        self.cls_D = nn.Parameter(torch.randn(width) * scale) if special == 1 else None
        self.cls_KD = nn.Parameter(torch.randn(special, width) * scale) if special > 1 else None
        self.positions_TD = nn.Parameter(torch.randn(special + config.grid**2, width) * scale)
        self.norm_pre = nn.LayerNorm(width, eps=config.eps) if config.pre_norm else None
        self.transformer = Transformer(width, config.depth, config.heads, config.hidden, config.activation, config.eps)
        self.norm_post: nn.Module = nn.LayerNorm(width, eps=config.eps)
        self.pool = AttentionPool(config) if config.pooling == "map" else None

    def forward(self, image_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """One vector [B, D] a picture, by the configured pooling: that of the first class token, or over the patches.

        Args:
            kept_BK: int64 places, in raster order, of the patches that are seen; None for all.
        """
        x_BTD = self.embed(image_BCHW, kept_BK)
        if self.config.pooling == "cls":
            first_B = torch.zeros(x_BTD.shape[0], dtype=torch.int64, device=x_BTD.device)
            out: Tensor = self.norm_post(self.transformer.pooled(x_BTD, first_B))
            return out
        x_BTD = self.norm_post(self.transformer(x_BTD))
        pooled_BD: Tensor = x_BTD.mean(1) if self.pool is None else self.pool(x_BTD)
        return pooled_BD

    def class_tokens(self, image_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """Every class token after the last norm [B, K, D]."""
        x_BTD = self.transformer(self.embed(image_BCHW, kept_BK))
        out: Tensor = self.norm_post(x_BTD[:, : self.config.special])
        return out

    def tokens(self, image_BCHW: Tensor) -> Tensor:
        """Every token after the last norm [B, T, D]; class tokens first where there are any."""
        out: Tensor = self.norm_post(self.transformer(self.embed(image_BCHW)))
        return out

    def write_backbone(self, folder: Path) -> None:
        """Writes the configuration of a pretrained backbone where there is one; its weights are among the model's."""
        if isinstance(self.patches, BackbonePatches):
            self.patches.backbone.write_config(folder)

    def embed(self, image_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """Patches with positions, class tokens first, before the blocks [B, T, D]."""
        size = self.config.patch_size
        rows, columns = image_BCHW.shape[-2] // size, image_BCHW.shape[-1] // size
        return self.placed(self.patches(image_BCHW, kept_BK), rows, columns, kept_BK)

    def placed(self, x_BPD: Tensor, rows: int, columns: int, kept_BK: Tensor | None = None) -> Tensor:
        """Embedded patches of a grid with their positions, class tokens first [B, T, D]."""
        special, positions_TD = self.config.special, self._positions(rows, columns)
        of_patches_PD = positions_TD[special:]
        x_BTD = x_BPD + (of_patches_PD if kept_BK is None else F.embedding(kept_BK, of_patches_PD))
        if special:
            classes_KD = self._class_vectors().to(x_BPD.dtype) + positions_TD[:special]
            x_BTD = torch.cat([classes_KD.expand(len(x_BTD), -1, -1), x_BTD], dim=1)
        if self.norm_pre is not None:
            x_BTD = self.norm_pre(x_BTD)
        return x_BTD

    def _class_vectors(self) -> Tensor:
        """[K, D]."""
        if self.cls_KD is not None:
            return self.cls_KD
        assert self.cls_D is not None
        return self.cls_D[None]

    def _positions(self, rows: int, columns: int) -> Tensor:
        grid = self.config.grid
        if (rows, columns) == (grid, grid):
            return self.positions_TD
        special = self.config.special
        resized = interpolate_positions(self.positions_TD[special:], grid, rows, columns)
        return torch.cat([self.positions_TD[:special], resized])


def _patches(config: VisionConfig, backbone: BackboneMap | None) -> PatchEmbedding | BackbonePatches:
    if not config.backbone_channels:
        return PatchEmbedding(config.patch_size, config.width, config.patch_bias)
    if backbone is None:
        raise ConfigError("backbone_channels asks for a pretrained backbone, and none was given")
    return BackbonePatches(backbone, config.backbone_channels, config.patch_size, config.width)


def taken(rows_BPC: Tensor, kept_BK: Tensor) -> Tensor:
    """Some rows of each sample: [B, K, C]."""
    return rows_BPC.gather(1, kept_BK[..., None].expand(-1, -1, rows_BPC.shape[-1]))


def interpolate_positions(positions_PD: Tensor, grid: int, rows: int, columns: int) -> Tensor:
    """Learned positions for another grid, by bicubic interpolation (section 3.2 of the paper; kernel a = -0.75).

    Args:
        positions_PD: [grid * grid, D], raster order.

    Returns:
        [rows * columns, D]; the same tensor's values when the grid does not change.
    """
    square = positions_PD.reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, (rows, columns), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).reshape(rows * columns, -1)
