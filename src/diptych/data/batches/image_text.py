"""Pictures with captions as batches: what contrastive models train on.

B batch, T tokens, C channels, H height, W width, N pictures or texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.core.processor import BadSample, Field, Preview, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.data.batches.row_batch import RowBatch
from diptych.data.pixels.images import ImagePreprocessing, fill_pixels, image_of, pixels_of
from diptych.data.words.hard_negatives import check_kinds, hard_negative
from diptych.data.words.tokenizer import Tokenizer, pad_tokens, read_back

__all__ = ["ImagePreprocessing", "ImageTextBatch", "ImageTextConfig", "ImageTextProcessor", "TextPreprocessing"]


@dataclass(frozen=True)
class TextPreprocessing:
    """How captions become rows of tokens.

    Attributes:
        max_length: longest row in tokens, control tokens included.
        pad_to_max: pad every batch to `max_length`: only for models that were trained to read padding (SigLIP).
        negatives: kinds of hard negatives (`hard_negatives.KINDS`), of which each pair in training is given one; none
            for plain pairs.
    """

    max_length: int = 77
    pad_to_max: bool = False
    negatives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_kinds(self.negatives)


@dataclass(frozen=True)
class ImageTextConfig:
    """Both halves."""

    image: ImagePreprocessing = field(default_factory=ImagePreprocessing)
    text: TextPreprocessing = field(default_factory=TextPreprocessing)


class HardNegatives(NamedTuple):
    """One text a pair, close to its caption and false of its picture.

    Attributes:
        tokens_BT: int64, as wide as the captions' rows.
        lengths_B: int64.
        wanted_B: bool, False where no negative could be made: that row is no text at all.
    """

    tokens_BT: Tensor
    lengths_B: Tensor
    wanted_B: Tensor


@dataclass(frozen=True)
class ImageTextBatch(RowBatch):
    """Pairs of one picture and one caption.

    Attributes:
        pixels_BCHW: uint8 in channels-last strides; the model normalises them on its device.
        tokens_BT: int64, padded to the batch's longest row.
        lengths_B: int64, tokens that are not padding, control tokens included.
        seeds: one 63-bit integer a sample, for noise that is drawn on the device (`seeding.normal_like`).
        negatives: of the captions; None where the processor makes none.
    """

    pixels_BCHW: Tensor
    tokens_BT: Tensor
    lengths_B: Tensor
    seeds: tuple[int, ...]
    negatives: HardNegatives | None = None


class Texts(NamedTuple):
    """What is said of a picture.

    Attributes:
        caption: true of it.
        negative: close to the caption and false of the picture; None where none is asked for or could be made.
    """

    caption: str
    negative: str | None


class _Caption(NamedTuple):
    ids: list[int]
    negative: list[int] | None
    seed: int


class ImageTextProcessor:
    """Samples -> `ImageTextBatch`; the same object prepares what a predictor is given.

    Attributes:
        config: plain values (`core.config.to_plain`); with the tokenizer's file it is all there is to save.
        tokenizer: of the captions.
    """

    def __init__(self, config: ImageTextConfig, tokenizer: Tokenizer) -> None:
        self.config = config
        self.tokenizer = tokenizer

    def layout(self) -> Mapping[str, Field]:
        size = self.config.image.size
        return {"pixels": Field((size, size, 3))}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> _Caption:
        """Fills the pixels and tokenises one caption, with its hard negative where the configuration asks for one.

        Raises:
            BadSample: no picture, one that cannot be decoded, "no caption" or "empty caption".
        """
        caption, negative = self.texts(sample, draw)
        ids = self.tokenizer.encode([caption], self.config.text.max_length)[0]
        if len(ids) <= self.tokenizer.num_control:
            raise BadSample(sample.key, "empty caption", f"{caption!r} has no tokens")
        fill_pixels(rows["pixels"], image_of(sample), sample.key, self.config.image, draw)
        seed = (draw or Draw(0, 0, sample.key)).integer("noise")
        return _Caption(ids, self._negative(negative, ids), seed)

    def texts(self, sample: Sample, draw: Draw | None) -> Texts:
        """A caption, drawn in training and the first in evaluation, and its hard negative.

        Where the sample brings negatives with captions of their own, the caption is that of the negative.

        Raises:
            BadSample: "no caption" or "empty caption".
        """
        caption, kinds = _choose(sample, draw), self.config.text.negatives
        return Texts(*hard_negative(sample, caption, kinds, draw)) if kinds else Texts(caption, None)

    def _negative(self, text: str | None, caption: list[int]) -> list[int] | None:
        """Ids of a hard negative; None where it says what the caption says (both cut off, or spelled otherwise)."""
        if text is None:
            return None
        ids = self.tokenizer.encode([text], self.config.text.max_length, remember=False)[0]
        return ids if ids != caption and len(ids) > self.tokenizer.num_control else None

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[_Caption]) -> ImageTextBatch:
        rows, hard = [item.ids for item in items], [item.negative for item in items]
        if self.config.text.negatives:
            nothing = self.tokenizer.encode([""], self.config.text.max_length)[0]
            rows += [nothing if ids is None else ids for ids in hard]
        tokens, lengths = self._padded(rows)
        negatives = None
        if self.config.text.negatives:
            wanted_B = torch.tensor([ids is not None for ids in hard])
            negatives = HardNegatives(tokens[len(items) :], lengths[len(items) :], wanted_B)
        return ImageTextBatch(
            keys,
            arrays["pixels"].permute(0, 3, 1, 2),
            tokens[: len(items)],
            lengths[: len(items)],
            tuple(item.seed for item in items),
            negatives,
        )

    def preview(self, batch: ImageTextBatch) -> list[Preview]:
        """The views, and the captions as their tokens say them, each with its hard negative where it has one."""
        said = read_back(self.tokenizer, batch.tokens_BT, batch.lengths_B, self.config.text.max_length)
        pixels_BHWC = batch.pixels_BCHW.permute(0, 2, 3, 1).numpy()
        return [
            Preview(key, pixels_HWC, text + denied, tokens)
            for key, pixels_HWC, (text, tokens), denied in zip(
                batch.keys, pixels_BHWC, said, self._denied(batch), strict=True
            )
        ]

    def _denied(self, batch: ImageTextBatch) -> list[str]:
        """What each preview adds to its caption."""
        if batch.negatives is None:
            return [""] * batch.num_samples
        tokens_BT, lengths_B, wanted_B = batch.negatives
        said = read_back(self.tokenizer, tokens_BT, lengths_B, self.config.text.max_length)
        return [f" (not: {text})" if wanted else "" for (text, _), wanted in zip(said, wanted_B.tolist(), strict=True)]

    def pixels(self, visuals: Sequence[Any], threads: int = 2) -> Tensor:
        """Pictures in evaluation geometry: [N, 3, size, size] uint8.

        Args:
            visuals: Images, paths, bytes, PIL images or arrays.

        Raises:
            DataError: a picture is not there or cannot be decoded.
        """
        return pixels_of(visuals, self.config.image, threads)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """tokens_NT and lengths_N of strings, padded to the longest (or to the maximum, where the config says so)."""
        return self._padded(self.tokenizer.encode(texts, self.config.text.max_length))

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        text = self.config.text
        return pad_tokens(ids, self.tokenizer.pad_id, text.max_length if text.pad_to_max else None)


def _choose(sample: Sample, draw: Draw | None) -> str:
    """One caption that says something."""
    if not sample.texts:
        raise BadSample(sample.key, "no caption")
    texts = [text for text in sample.texts if text.strip()]
    if not texts:
        raise BadSample(sample.key, "empty caption")
    if draw is None or len(texts) == 1:
        return texts[0]
    return texts[draw.integer("caption") % len(texts)]
