"""A pretrained convolutional backbone as the first part of an image encoder: reading it, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.pixels.tower_inputs import read_tower_images
from diptych.layers.backbone_folder import read_backbone
from diptych.layers.backbone_patches import BackbonePatches
from diptych.layers.feature_map import BackboneMap
from diptych.layers.vision_transformer import VisionConfig, VisionTransformer
from diptych.recipes._pairs import PairsRun
from diptych.training.stages import Context

_ROWS = 64
"""Pictures in one compiled pass."""


@dataclass(frozen=True)
class Backbone:
    """A frozen backbone and what its weights expect.

    Attributes:
        map: pictures to the last feature map.
        channels: of the map.
        stride: side of a cell in pixels.
        mean, std: of its pictures, by channel.
    """

    map: BackboneMap
    channels: int
    stride: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, folder: str, image_size: int) -> Backbone:
        """Of a `transformers` folder, for square pictures of this side.

        Raises:
            ConfigError: no folder is named, or its cells do not divide the pictures.
            CheckpointError: the folder holds no such model, or one without a feature map.
        """
        if not folder:
            raise ConfigError("name a transformers folder of a convolutional backbone with --image_tower PATH")
        if not Path(folder).is_dir():
            raise ConfigError(f"--image_tower: no folder at {folder}")
        images = read_tower_images(Path(folder))
        found = BackboneMap(read_backbone(Path(folder), "vision"), False, images.mean, images.std)
        with torch.no_grad():
            _, channels, rows, _ = found(torch.zeros(1, 3, image_size, image_size)).shape
        if image_size % rows:
            raise ConfigError(f"the backbone makes {rows} cells of {image_size} pixels: take a multiple of its stride")
        return cls(found, channels, image_size // rows, images.mean, images.std)

    def pictures(self, image: ImagePreprocessing) -> ImagePreprocessing:
        """The preprocessing with the normalisation that the weights expect."""
        return replace(image, mean=self.mean, std=self.std)

    def speed_up(self, encoder: VisionTransformer, context: Context) -> None:
        """Compiles the backbone of an encoder that was built on it, on a CPU and in a single process."""
        if context.device.type == "cpu" and context.world.size == 1 and isinstance(encoder.patches, BackbonePatches):
            encoder.patches.compile_frozen(_ROWS)

    def encoder(self, vision: VisionConfig) -> VisionConfig:
        """The encoder with the backbone's cells for patches."""
        return replace(vision, patch_size=self.stride, backbone_channels=self.channels)


@dataclass(frozen=True, kw_only=True)
class OnBackbone(PairsRun):
    """What runs on a backbone are asked.

    Attributes:
        image_tower: a `transformers` folder of a convolutional backbone (MobileNet, ResNet, ConvNeXT).
        compile_tower: whether the backbone is compiled, on a CPU and in a single process: a minute once, several times
            faster after it.
    """

    image_tower: str = ""
    compile_tower: bool = True

    def backbone(self) -> Backbone:
        """A fresh copy, for one task; raises as `Backbone.read`."""
        return Backbone.read(self.image_tower, self.image.size)
