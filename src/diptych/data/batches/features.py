"""Batches for models on pretrained towers: each side is cached feature rows, or what the tower itself reads.

B batch, D feature width, C channels, H height, W width, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.core.processor import BadSample, Field, Preview, Rows, TokenCount
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.source import Source
from diptych.core.visual import Pixels
from diptych.data.batches.row_batch import RowBatch
from diptych.data.cached.feature_rows import FeatureRows
from diptych.data.pixels.images import image_of
from diptych.data.pixels.tower_inputs import TowerImages
from diptych.data.words.tokenizer import Tokenizer, pad_tokens, read_back


@dataclass(frozen=True)
class TowerBatch(RowBatch):
    """Pairs of one picture and one caption.

    Attributes:
        images: image features [B, D] (floating point), or uint8 pixels [B, 3, H, W].
        texts: text features [B, D] (floating point), or tokens [B, T] int64.
        lengths_B: of the tokens; zeros beside text features.
        seeds_B: int64, one a sample, for draws on the device.
    """

    images: Tensor
    texts: Tensor
    lengths_B: Tensor
    seeds_B: Tensor


@dataclass(frozen=True)
class TowerTexts:
    """How captions become tokens: the tower's own tokenizer, and the longest row it takes."""

    tokenizer: Tokenizer
    max_length: int = 256

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """tokens_NT and lengths_N, padded to the longest."""
        return pad_tokens(self.tokenizer.encode(texts, self.max_length), self.tokenizer.pad_id)

    def in_order_of_length(self, texts: Sequence[str], size: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Batches of texts of like length, so that little is computed on padding: positions, tokens_BT, lengths_B."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for begin in range(0, len(order), size):
            chosen = order[begin : begin + size]
            yield chosen, *self.tokens([texts[index] for index in chosen])


class _Chosen(NamedTuple):
    """What of a sample has no fixed size: its tokens, or nothing."""

    ids: list[int]
    seed: int


class TowerProcessor:
    """Samples -> `TowerBatch`.

    Args:
        images: how pictures are prepared; also for a predictor.
        texts: how captions are prepared; also for a predictor.
        image_rows: cached image features; where given, pictures are never decoded.
        text_rows: cached text features, a row a caption; where given, captions are never tokenised.
    """

    def __init__(
        self,
        images: TowerImages,
        texts: TowerTexts,
        image_rows: FeatureRows | None = None,
        text_rows: FeatureRows | None = None,
    ) -> None:
        self.images, self.texts = images, texts
        self.image_rows, self.text_rows = image_rows, text_rows

    def layout(self) -> Mapping[str, Field]:
        if self.image_rows is None:
            images = Field((self.images.height, self.images.width, 3))
        else:
            images = Field((self.image_rows.width,), "float32")
        if self.text_rows is None:
            return {"images": images}
        return {"images": images, "texts": Field((self.text_rows.width,), "float32")}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> _Chosen:
        """Fills one row: in training a drawn view and a drawn caption, in evaluation the first of each.

        Raises:
            BadSample: no picture or caption, one that cannot be used, or no cached features.
        """
        if self.image_rows is None:
            self.images.fill(rows["images"], image_of(sample), sample.key)
        else:
            rows["images"][:] = self.image_rows.row(sample.key, draw.integer("view") if draw else 0)
        choice = draw.integer("caption") if draw else 0
        seed = (draw or Draw(0, 0, sample.key)).integer("noise")
        if self.text_rows is None:
            captions = captions_of(sample)
            ids = self.texts.tokenizer.encode([captions[choice % len(captions)]], self.texts.max_length)[0]
            return _Chosen(ids, seed)
        rows["texts"][:] = self.text_rows.row(sample.key, choice)
        return _Chosen([], seed)

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[_Chosen]) -> TowerBatch:
        images = arrays["images"]
        seeds_B = torch.tensor([item.seed for item in items])
        if self.image_rows is None:
            images = images.permute(0, 3, 1, 2)
        if self.text_rows is not None:
            return TowerBatch(keys, images, arrays["texts"], torch.zeros(len(keys), dtype=torch.int64), seeds_B)
        tokens_BT, lengths_B = pad_tokens([item.ids for item in items], self.texts.tokenizer.pad_id)
        return TowerBatch(keys, images, tokens_BT, lengths_B, seeds_B)

    def preview(self, batch: TowerBatch) -> list[Preview]:
        """What the towers themselves read; a side whose features are cached shows nothing."""
        pictures: Iterable[Pixels | None] = repeat(None)
        said: Iterable[tuple[str, TokenCount | None]] = repeat(("", None))
        if self.image_rows is None:
            pictures = batch.images.permute(0, 2, 3, 1).numpy()
        if self.text_rows is None:
            said = read_back(self.texts.tokenizer, batch.texts, batch.lengths_B, self.texts.max_length)
        return [
            Preview(key, pixels_HWC, text, tokens)
            for key, pixels_HWC, (text, tokens) in zip(batch.keys, pictures, said, strict=False)
        ]


def captions_of(sample: Sample) -> list[str]:
    """The captions that say something.

    Raises:
        BadSample: there are none.
    """
    captions = [text for text in sample.texts if text.strip()]
    if not captions:
        raise BadSample(sample.key, "empty caption" if sample.texts else "no caption")
    return captions


class KeysOnly:
    """A source whose samples are their keys: with every side cached, nothing is read from where the data lies."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._keys = list(source.keys())  # a subset makes its list anew each time

    @property
    def name(self) -> str:
        return self.source.name

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._keys[index])

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        return self.source.fingerprint()
