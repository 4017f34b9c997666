"""What every image tokenizer offers: codes of pictures, pictures of codes.

N pictures, C channels, H height, W width, h rows and w columns of the grid of codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from diptych.capabilities.predictor import Predictor
from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.visual import Image
from diptych.data.images import ImagePreprocessing
from diptych.data.pictures import PictureProcessor

PREDICTION_BATCH = 64


class TokenizerModel(nn.Module, ABC):
    """What others hold when they take a tokenizer frozen (`requires_grad_(False)` and `eval()`)."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """How many codes there are."""

    @abstractmethod
    def grid(self, image_size: int) -> tuple[int, int]:
        """Rows and columns of codes of a square picture.

        Raises:
            ConfigError: the size is not divisible by what a code covers.
        """

    @abstractmethod
    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        """The codes [B, h, w], int64, of uint8 or prepared pixels; no gradient.

        Raises:
            ConfigError: the picture's sides are not divisible by what a code covers.
        """

    @abstractmethod
    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [0, 1] of codes; no gradient.

        Raises:
            DataError: a code that the codebook does not have.
        """


ConfigT = TypeVar("ConfigT", bound=ModelConfig)
ModelT = TypeVar("ModelT", bound=TokenizerModel)


class TokenizerPredictor(Predictor, Generic[ConfigT, ModelT]):
    """Makes codes of pictures, and pictures of codes.

    Attributes:
        CONFIG: the model's `Config`.
    """

    VERBS: ClassVar[tuple[str, ...]] = ("reconstruct", "tokenize_image")
    CONFIG: ClassVar[type[ModelConfig]]
    module: ModelT

    def __init__(self, config: ConfigT, processor: PictureProcessor, module: ModelT, name: str) -> None:
        self.config = config
        self.processor = processor
        self.module = module
        self.name = name

    @classmethod
    @abstractmethod
    def build(cls, config: ConfigT, processor: PictureProcessor) -> ModelT:
        """The module with fresh weights.

        Raises:
            ConfigError: the processor's pictures cannot be cut into cells of the codes' size.
        """

    @property
    def vocabulary(self) -> int:
        """How many codes there are."""
        return self.module.vocabulary

    @torch.inference_mode()
    def tokenize_image(self, visuals: Sequence[Any] | Tensor) -> Tensor:
        """Codes [N, h, w], int64, on the CPU."""
        rows = [self.module.codes(pixels).cpu() for pixels in self._batches(visuals)]
        grid = self.module.grid(self.processor.image.size)
        return torch.cat(rows) if rows else torch.zeros(0, *grid, dtype=torch.int64)

    def reconstruct(self, visuals: Sequence[Any] | Tensor) -> list[Image]:
        """The pictures as their codes tell them, in the size and geometry of the model."""
        return self.decode(self.tokenize_image(visuals))

    @torch.inference_mode()
    def decode(self, codes_Nhw: Tensor) -> list[Image]:
        """Pictures of codes.

        Raises:
            DataError: a code that the codebook does not have.
        """
        pictures: list[Image] = []
        for some in torch.split(codes_Nhw, PREDICTION_BATCH):
            values_NCHW = self.module.decode(some.to(self.device)).float()
            pictures += _images((values_NCHW * 255).round().to(torch.uint8).cpu())
        return pictures

    def as_seen(self, visuals: Sequence[Any]) -> list[Image]:
        """The pictures in the size and geometry of the model: what a reconstruction is compared with."""
        return _images(self.processor.pixels(visuals))

    def _batches(self, visuals: Sequence[Any] | Tensor) -> Iterator[Tensor]:
        for begin in range(0, len(visuals), PREDICTION_BATCH):
            some = visuals[begin : begin + PREDICTION_BATCH]
            yield (some if isinstance(some, Tensor) else self.processor.pixels(some)).to(self.device)

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


def _images(pixels_NCHW: Tensor) -> list[Image]:
    return [Image(pixels_HWC=pixels_HWC) for pixels_HWC in pixels_NCHW.permute(0, 2, 3, 1).numpy()]
