"""Predictors of models that read pictures alone: how they are built, saved and restored.

N pictures, C channels, H height, W width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self

import torch
from torch import Tensor

from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.visual import Image
from diptych.data.batches.pictures import PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.models._batches import batches
from diptych.models._model_predictor import ConfigT, ModelPredictor, ModelT

PREDICTION_BATCH = 64


class PicturePredictor(ModelPredictor[ConfigT, PictureProcessor, ModelT], Generic[ConfigT, ModelT]):
    """A model that takes pictures and gives pictures.

    Attributes:
        CONFIG: the model's `Config`.
    """

    CONFIG: ClassVar[type[ModelConfig]]

    @classmethod
    @abstractmethod
    def build(cls, config: ConfigT, processor: PictureProcessor) -> ModelT:
        """The module with fresh weights.

        Raises:
            ConfigError: the processor's pictures cannot be cut into cells of the model's size.
        """

    def as_seen(self, visuals: Sequence[Any]) -> list[Image]:
        """The pictures in the size and geometry of the model: what a reconstruction is compared with."""
        return images_of(self.processor.pixels(visuals))

    def _batches(self, visuals: Sequence[Any] | Tensor) -> Iterator[Tensor]:
        for some in batches(visuals, PREDICTION_BATCH):
            yield (some if isinstance(some, Tensor) else self.processor.pixels(some)).to(self.device)

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """What every picture goes through first."""
        return self.processor.image

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "image": to_plain(self.processor.image)}

    def save_files(self, folder: Path) -> None:
        """Nothing: it reads no text."""

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config: Any = from_plain(cls.CONFIG, description["model"])
        processor = PictureProcessor(from_plain(ImagePreprocessing, description["image"]))
        return cls(config, processor, cls.build(config, processor), str(description["name"]))


def at_least_one(rows: Tensor) -> Tensor:
    """The rows, or one of zeros in the place of none: convolutions need one, and passes must not depend on data."""
    return rows if len(rows) else rows.new_zeros(1, *rows.shape[1:])


def images_of(pixels_NCHW: Tensor) -> list[Image]:
    """Pictures of pixels: uint8, or values in [0, 1]."""
    if pixels_NCHW.is_floating_point():
        pixels_NCHW = (pixels_NCHW.float() * 255).round().to(torch.uint8)
    return [Image(pixels_HWC=pixels_HWC) for pixels_HWC in pixels_NCHW.cpu().permute(0, 2, 3, 1).numpy()]
