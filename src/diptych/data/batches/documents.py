"""Interleaved documents as batches: words and pictures in the order in which they stand.

D documents, N pictures of all of them, M pictures of a document at most, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample, Field, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.data.batches.row_batch import RowBatch
from diptych.data.pixels.images import fill_pixels
from diptych.data.words.cloze import word_ids

PICTURE = -1
"""In the place of a document's next picture."""

Parts = tuple[tuple[int, ...], ...]
"""Ids of words, or (`PICTURE`,), in order."""


@dataclass(frozen=True)
class DocumentBatch(RowBatch):
    """Documents.

    Attributes:
        parts: of each document.
        pixels_NCHW: uint8 in channels-last strides, the first document's pictures first.
        seeds: one 63-bit integer a sample.
    """

    parts: tuple[Parts, ...]
    pixels_NCHW: Tensor
    seeds: tuple[int, ...]

    @property
    def counts(self) -> list[int]:
        """Pictures of each document."""
        return [sum(part == (PICTURE,) for part in parts) for parts in self.parts]

    def part(self, begin: int, end: int) -> Self:
        """The documents from `begin` to before `end`, with their pictures."""
        counts = self.counts
        pictures = slice(sum(counts[:begin]), sum(counts[:end]))
        return replace(super().part(begin, end), pixels_NCHW=self.pixels_NCHW[pictures])


class _Document(NamedTuple):
    parts: Parts
    seed: int


class DocumentProcessor:
    """Samples with `parts` -> `DocumentBatch`; a sample without them is its caption and its picture, in either order.

    Attributes:
        pairs: how a picture and a text are prepared.
        most: M; a document ends before its next picture.
    """

    def __init__(self, pairs: ImageTextProcessor, most: int) -> None:
        if most < 1:
            raise ConfigError(f"documents of at most {most} pictures: give 1 or more")
        self.pairs, self.most = pairs, most

    def layout(self) -> Mapping[str, Field]:
        size = self.pairs.config.image.size
        return {"pixels": Field((self.most, size, size, 3))}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> _Document:
        """Fills the pixels of the pictures and tokenises the words between them.

        Raises:
            BadSample: nothing in it, a clip, or a picture that cannot be decoded.
        """
        found: list[tuple[int, ...]] = []
        shown = 0
        for part in _parts_of(sample, draw):
            if isinstance(part, str):
                words = tuple(word_ids(self.pairs.tokenizer, part))
                found += [words] if words else []
                continue
            if not isinstance(part, Image):
                raise BadSample(sample.key, "a clip in a document")
            if shown == self.most:
                break
            fill_pixels(rows["pixels"][shown], part, sample.key, self.pairs.config.image, draw, f"view {shown}")
            found.append((PICTURE,))
            shown += 1
        if not found:
            raise BadSample(sample.key, "empty document")
        return _Document(tuple(found), (draw or Draw(0, 0, sample.key)).integer("noise"))

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[_Document]) -> DocumentBatch:
        parts = tuple(item.parts for item in items)
        batch = DocumentBatch(keys, parts, torch.empty(0), tuple(item.seed for item in items))
        kept_DM = torch.arange(self.most) < torch.tensor(batch.counts)[:, None]
        return replace(batch, pixels_NCHW=arrays["pixels"][kept_DM].permute(0, 3, 1, 2))


def _parts_of(sample: Sample, draw: Draw | None) -> Sequence[object]:
    if sample.parts:
        return sample.parts
    pair = [*sample.texts[:1], *sample.visuals[:1]]
    return pair[::-1] if draw is not None and draw.rng("picture first").random() < 0.5 else pair
