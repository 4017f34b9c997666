"""What every image tokenizer offers: codes of pictures, pictures of codes.

N pictures, C channels, H height, W width, h rows and w columns of the grid of codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from diptych.core.errors import DataError
from diptych.core.visual import Image
from diptych.models._model_predictor import ConfigT
from diptych.models.image_tokenizer._picture_predictor import (
    PREDICTION_BATCH,
    PicturePredictor,
    at_least_one,
    images_of,
)

__all__ = ["TokenizerModel", "TokenizerPredictor", "at_least_one", "checked_codes"]


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


def checked_codes(codes_Bhw: Tensor, vocabulary: int) -> None:
    """Refuses codes that there are not.

    Raises:
        DataError: one is below 0 or not below `vocabulary`.
    """
    if codes_Bhw.numel() and not 0 <= int(codes_Bhw.min()) <= int(codes_Bhw.max()) < vocabulary:
        worst = int(codes_Bhw.max()) if int(codes_Bhw.min()) >= 0 else int(codes_Bhw.min())
        raise DataError(f"the codebook has codes 0 to {vocabulary - 1}, and {worst} is none of them")


ModelT = TypeVar("ModelT", bound=TokenizerModel)


class TokenizerPredictor(PicturePredictor[ConfigT, ModelT], Generic[ConfigT, ModelT]):
    """Makes codes of pictures, and pictures of codes."""

    VERBS: ClassVar[tuple[str, ...]] = ("reconstruct", "tokenize_image")

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
            pictures += images_of(self.module.decode(some.to(self.device)))
        return pictures
