"""Cells of a pretrained backbone's feature map in the place of a vision transformer's patches.

The hybrid architecture of Dosovitskiy et al. 2020 (arXiv 2010.11929, section 3.1), with a backbone that was trained
before: what a few thousand pictures cannot teach is there already. A cell sees beyond its own pixels, so whoever hides
patches hides their pixels from the backbone too.

B batch, C channels, H height, W width, P cells in raster order, K kept cells, D width.
"""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.layers.feature_map import BackboneMap
from diptych.layers.frozen_pass import FrozenPass


class BackbonePatches(nn.Module):
    """A linear map of every cell, normalised.

    Args:
        backbone: gives a map [B, C, H', W'].
        channels: C of the map.
        patch_size: side of a cell in pixels.
        width: D.
    """

    def __init__(self, backbone: BackboneMap, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.backbone, self.channels, self.patch_size = backbone, channels, patch_size
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, width)
        self._fast: FrozenPass | None = None

    def forward(self, image_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """[B, P, D] of prepared pictures, or [B, K, D] of the cells that are kept.

        Raises:
            ConfigError: the map has not a cell for each patch, or other channels than the configuration says.
        """
        map_BCHW = self._map(image_BCHW)
        rows, columns = (side // self.patch_size for side in image_BCHW.shape[-2:])
        if map_BCHW.shape[1:] != (self.channels, rows, columns):
            raise ConfigError(
                f"the backbone gives {map_BCHW.shape[1]} channels in {map_BCHW.shape[2]} x {map_BCHW.shape[3]} cells "
                f"of a picture of {image_BCHW.shape[2]} x {image_BCHW.shape[3]} pixels, and the model is made for "
                f"{self.channels} in {rows} x {columns}: set backbone_channels and patch_size (the backbone's stride)"
            )
        cells_BPC = map_BCHW.flatten(2).transpose(1, 2)
        if kept_BK is not None:
            cells_BPC = cells_BPC.gather(1, kept_BK[..., None].expand(-1, -1, self.channels))
        out: Tensor = self.project(self.norm(cells_BPC))
        return out

    def compile_frozen(self, rows: int) -> None:
        """Runs the backbone as a compiled frozen pass of so many pictures at a time: several times faster on a CPU.

        For a frozen backbone, until its weights change; nothing of it is saved.
        """
        assert not self.backbone.trainable, "a backbone that is trained cannot be compiled with its weights frozen"
        self._fast = FrozenPass(deepcopy(self.backbone), rows)  # a copy: compiling lays its weights out anew

    def _map(self, image_BCHW: Tensor) -> Tensor:
        if not len(image_BCHW):
            height, width = (side // self.patch_size for side in image_BCHW.shape[-2:])
            return image_BCHW.new_zeros(0, self.channels, height, width)
        if self._fast is not None:
            return self._fast(image_BCHW)
        out: Tensor = self.backbone(image_BCHW)
        return out
