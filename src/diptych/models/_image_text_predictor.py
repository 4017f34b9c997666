"""Predictors of models that read pictures and captions: how they are built, saved and restored."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, Self

from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.feature_map import saved_backbone
from diptych.layers.vision_transformer import VisionTransformer
from diptych.models._model_predictor import ConfigT, ModelPredictor, ModelT

BACKBONE = "backbone"


class ImageTextPredictor(ModelPredictor[ConfigT, ImageTextProcessor, ModelT], Generic[ConfigT, ModelT]):
    """A module behind an `ImageTextProcessor`.

    Attributes:
        CONFIG: the class of its sizes.
    """

    CONFIG: ClassVar[type[ModelConfig]]

    @classmethod
    @abstractmethod
    def build(cls, config: Any, processor: ImageTextProcessor) -> ModelT:
        """The module with fresh weights.

        Raises:
            ConfigError: the processor makes what the module cannot take.
        """

    @classmethod
    def rebuilt(cls, config: Any, processor: ImageTextProcessor, folder: Path) -> ModelT:
        """`build`, with the parts whose settings `save_files` left in the folder."""
        return cls.build(config, processor)

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """What every picture goes through first."""
        return self.processor.config.image

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config: Any = from_plain(cls.CONFIG, description["model"])
        settings = from_plain(ImageTextConfig, description["processor"])
        processor = ImageTextProcessor(settings, Tokenizer.read(folder / "tokenizer.json"))
        return cls(config, processor, cls.rebuilt(config, processor, folder), str(description["name"]))


class OnBackbonePredictor(ImageTextPredictor[ConfigT, ModelT], Generic[ConfigT, ModelT]):
    """One whose vision transformer may read the features of a pretrained backbone in the place of patches."""

    @property
    @abstractmethod
    def vision(self) -> VisionTransformer:
        """What sees the picture first."""

    @classmethod
    def rebuilt(cls, config: Any, processor: ImageTextProcessor, folder: Path) -> ModelT:
        image = processor.config.image
        backbone = saved_backbone(folder / BACKBONE, config.vision.backbone_channels, image.mean, image.std)
        return cls.build(config, processor, backbone)  # type: ignore[call-arg]

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        self.vision.write_backbone(folder / BACKBONE)
