"""Pairs with strong views: what SLIP and CLIP-rocket train on.

To the weak pair of `data.batches.image_text` come strongly augmented views of the same picture and of the same caption.
In evaluation nothing is drawn, so the strong views are the evaluation geometry and the plain caption.

B batch, V strong views, C channels, H height, W width, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from time import perf_counter
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.processor import Field, Preview, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image, Pixels
from diptych.data.batches.image_text import ImageTextBatch, ImageTextConfig, ImageTextProcessor
from diptych.data.batches.row_batch import cut, on_device
from diptych.data.pixels.decode import decode
from diptych.data.pixels.images import fill_pixels, image_of
from diptych.data.pixels.views import Views
from diptych.data.stopwatch import spent
from diptych.data.words.text_augment import TextAugmentation, augmented
from diptych.data.words.tokenizer import Tokenizer

STRONG = Views(
    (0.08, 1.0),
    flip=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    colour=0.8,
    grey=0.2,
    blur=0.5,
)
"""SLIP's views for its SimCLR term, and CLIP-rocket's strong ones."""


@dataclass(frozen=True)
class Augmentation:
    """The strong side of a pair.

    Attributes:
        views: how many strong views; 0 leaves the plain pair.
        image: how strong views of a picture vary.
        text: how strong views of the caption vary; None where the model has none (SLIP).
    """

    views: int = 2
    image: Views = STRONG
    text: TextAugmentation | None = None

    def __post_init__(self) -> None:
        if self.views < 0:
            raise ConfigError(f"augmentation: {self.views} strong views: give 0 or more")


class TextRows(NamedTuple):
    """Rows of tokens.

    Attributes:
        tokens_BT: int64, padded.
        lengths_B: int64, tokens that are not padding.
    """

    tokens_BT: Tensor
    lengths_B: Tensor


@dataclass(frozen=True, kw_only=True)
class AugmentedBatch(ImageTextBatch):
    """A batch of weak pairs, and their strong views.

    Attributes:
        strong_BVCHW: uint8 pixels.
        strong_texts: one a view; none where texts have no strong views.
    """

    strong_BVCHW: Tensor
    strong_texts: tuple[TextRows, ...]

    @classmethod
    def of(cls, pairs: ImageTextBatch, strong_BVCHW: Tensor, strong_texts: Sequence[TextRows]) -> AugmentedBatch:
        """Weak pairs with their strong views."""
        held = {field.name: getattr(pairs, field.name) for field in fields(pairs)}
        return cls(**held, strong_BVCHW=strong_BVCHW, strong_texts=tuple(strong_texts))

    def to(self, device: torch.device) -> Self:
        """Copies to a device; without waiting where the memory is pinned."""
        return replace(super().to(device), strong_texts=tuple(on_device(view, device) for view in self.strong_texts))

    def part(self, begin: int, end: int) -> Self:
        """The samples from `begin` to before `end`, with all of their views."""
        part = super().part(begin, end)
        return replace(part, strong_texts=tuple(cut(view, begin, end) for view in self.strong_texts))


class _Item(NamedTuple):
    weak: Any
    strong: list[list[int]]


class AugmentedProcessor(ImageTextProcessor):
    """Samples -> `AugmentedBatch`; the weak pair is that of `ImageTextProcessor`, pixel for pixel.

    A predictor needs none of it: what is saved with a model is the plain processor's configuration.

    Attributes:
        augmentation: plain values.
    """

    def __init__(self, config: ImageTextConfig, tokenizer: Tokenizer, augmentation: Augmentation) -> None:
        super().__init__(config, tokenizer)
        self.augmentation = augmentation
        self._strong_image = replace(config.image, views=augmentation.image)

    def layout(self) -> Mapping[str, Field]:
        size = self.config.image.size
        return {**super().layout(), "strong": Field((self.augmentation.views, size, size, 3))}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> Any:
        """Fills weak and strong pixels, tokenises the caption and its strong views.

        Raises:
            BadSample: as for the weak pair.
        """
        decoded = self._decoded(sample, draw)
        weak = super().prepare(decoded, draw, rows)
        for view in range(self.augmentation.views):
            purpose = f"strong view {view}"
            fill_pixels(rows["strong"][view], image_of(decoded), sample.key, self._strong_image, draw, purpose)
        return _Item(weak, self._strong_tokens(self.texts(sample, draw).caption, draw))

    def _decoded(self, sample: Sample, draw: Draw | None) -> Sample:
        """The sample with its picture decoded once for all its views, as large as the neediest wants it."""
        if not self.augmentation.views:
            return sample
        image, started = image_of(sample), perf_counter()
        least = [config.min_decoded(draw is not None) for config in (self.config.image, self._strong_image)]
        pixels_HWC = decode(image, sample.key, 0 if 0 in least else max(least))
        spent.decode += perf_counter() - started
        return replace(sample, visuals=(Image(pixels_HWC=pixels_HWC, name=image.name), *sample.visuals[1:]))

    def _strong_tokens(self, caption: str, draw: Draw | None) -> list[list[int]]:
        """Ids of the strong views of the caption."""
        how, length = self.augmentation.text, self.config.text.max_length
        if how is None:
            return []
        found = []
        for view in range(self.augmentation.views):
            text = caption if draw is None else augmented(caption, draw.rng(f"strong text {view}"), how)
            found += self.tokenizer.encode([text], length, remember=False)
        return found

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[Any]) -> AugmentedBatch:
        pairs = super().collate(keys, arrays, [item.weak for item in items])
        strong_texts = [TextRows(*self._padded(rows)) for rows in zip(*(item.strong for item in items), strict=True)]
        return AugmentedBatch.of(pairs, arrays["strong"].permute(0, 1, 4, 2, 3), strong_texts)

    def preview(self, batch: ImageTextBatch) -> list[Preview]:
        """The weak view, top left, with the strong ones; after the caption, its strong views."""
        assert isinstance(batch, AugmentedBatch)
        shown = []
        for index, weak in enumerate(super().preview(batch)):
            pictures = [batch.pixels_BCHW[index : index + 1], batch.strong_BVCHW[index]]
            views = torch.cat(pictures).permute(0, 2, 3, 1).numpy()
            said = [weak.text, *(self._said(texts, index) for texts in batch.strong_texts)]
            shown.append(weak._replace(picture_HWC=_in_a_square(views), text=" | ".join(said)))
        return shown

    def _said(self, texts: TextRows, index: int) -> str:
        return self.tokenizer.decode(texts.tokens_BT[index, : int(texts.lengths_B[index])].tolist())


def _in_a_square(views_NHWC: NDArray[np.uint8]) -> Pixels:
    """Pictures of one size row by row on white."""
    count, height, width, _ = views_NHWC.shape
    side = math.ceil(math.sqrt(count))
    paper_HWC = np.full((-(-count // side) * height, side * width, 3), 255, np.uint8)
    for place, view_HWC in enumerate(views_NHWC):
        top, left = place // side * height, place % side * width
        paper_HWC[top : top + height, left : left + width] = view_HWC
    return paper_HWC
