"""Pictures and boxes to one feature vector a region: a feature map, RoIAlign, a linear map.

B batch, R regions, C channels, H height, W width, S bins along a side of a region, F region width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.feature_map import BackboneMap, BackboneMapConfig, ConvMap, ConvMapConfig
from diptych.layers.roi_align import roi_align

MapConfig = ConvMapConfig | BackboneMapConfig


class RegionEncoder(nn.Module):
    """What a detector's box head does: the map within each box, flattened and mapped to F numbers."""

    def __init__(
        self, config: MapConfig, bins: int, width: int, mean: Sequence[float], std: Sequence[float],
        backbone: nn.Module | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.bins = bins
        self.map: ConvMap | BackboneMap
        if isinstance(config, ConvMapConfig):
            self.map, channels = ConvMap(config, mean, std), config.width
        else:
            if backbone is None:
                raise ConfigError("this model takes its feature map from a pretrained backbone, and none was given")
            self.map, channels = BackboneMap(backbone, config.trainable, mean, std), config.channels
        self.out = nn.Linear(channels * bins**2, width)

    def forward(self, pixels_BCHW: Tensor, boxes_BR4: Tensor) -> Tensor:
        """Features [B, R, F].

        Args:
            pixels_BCHW: uint8 or prepared.
            boxes_BR4: normalised x0, y0, x1, y1.
        """
        map_BCHW = self.map(pixels_BCHW)
        height, width = map_BCHW.shape[-2:]
        cells_BR4 = boxes_BR4 * boxes_BR4.new_tensor([width, height, width, height])
        pooled_BRSSC = roi_align(map_BCHW, cells_BR4, self.bins)
        return F.gelu(self.out(pooled_BRSSC.flatten(2)))
