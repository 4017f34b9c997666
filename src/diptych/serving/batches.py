"""Pictures made ready for a model by the loader's threads, while the model is at work on those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from diptych.core.processor import Field, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.pixels.decode import decode
from diptych.data.pixels.images import ImagePreprocessing, fill_pixels, image_of
from diptych.data.pixels.thumbnail import thumbnail

THUMBNAIL = 256
"""Pixels of the longer side of a thumbnail in a gallery."""


@dataclass(frozen=True)
class Pictures:
    """A batch.

    Attributes:
        images: as the model takes them in; decoded at least.
        thumbnails: `data:` addresses; "" where none are wanted.
    """

    keys: tuple[str, ...]
    images: tuple[Image, ...]
    thumbnails: tuple[str, ...]


class ReadyPictures:
    """Samples -> `Pictures`.

    Args:
        image: what the model does to every picture, done here in its place; None for a model that has no one way, whose
            pictures are decoded here.
        thumbnails: whether they are made.
    """

    def __init__(self, image: ImagePreprocessing | None, thumbnails: bool = False) -> None:
        self._image = image
        self._thumbnails = thumbnails

    def layout(self) -> Mapping[str, Field]:
        return {} if self._image is None else {"pixels": Field((self._image.size, self._image.size, 3))}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> tuple[Image | None, str]:
        """Fills the pixels, or decodes the picture; with its thumbnail.

        Raises:
            BadSample: no picture, or one that cannot be decoded.
        """
        image, decoded = image_of(sample), None
        if self._image is not None:
            fill_pixels(rows["pixels"], image, sample.key, self._image, None)
        else:
            decoded = Image(pixels_HWC=decode(image, sample.key), name=image.name, boxes=sample.boxes)
        return decoded, thumbnail(decoded or image, sample.key, THUMBNAIL) if self._thumbnails else ""

    def collate(
        self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[tuple[Image | None, str]]
    ) -> Pictures:
        if self._image is None:
            images = [decoded for decoded, _ in items if decoded is not None]
        else:
            images = [Image(pixels_HWC=row.numpy(), name=key) for key, row in zip(keys, arrays["pixels"], strict=True)]
        return Pictures(keys, tuple(images), tuple(small for _, small in items))
