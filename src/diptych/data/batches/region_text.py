"""Pictures as regions, with captions that may be of another picture: what early-fusion models train on.

B batch, T tokens, R regions, C channels, H height, W width, N pictures or texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample, Field, Preview, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Box, Image, as_image
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.batches.region_batch import Pictures, RegionTextBatch
from diptych.data.pixels.decode import decode
from diptych.data.pixels.geometry import squash_into
from diptych.data.pixels.images import ImagePreprocessing, image_of
from diptych.data.pixels.regions import Boxes, Detector, RegionConfig, mirrored, regions_of
from diptych.data.stopwatch import spent
from diptych.data.words.cloze import MASK
from diptych.data.words.tokenizer import Tokenizer, pad_tokens, read_back


@dataclass(frozen=True)
class RegionTextConfig:
    """How samples become regions and tokens.

    Attributes:
        image: the whole picture squashed to its size; crops would cut regions off, so there are no views.
        mismatched: the share of pairs in training whose caption is one of another picture.
    """

    image: ImagePreprocessing = field(default_factory=lambda: ImagePreprocessing(resize="squash", views=None))
    text: TextPreprocessing = field(default_factory=lambda: TextPreprocessing(128))
    regions: RegionConfig = field(default_factory=RegionConfig)
    mismatched: float = 0.5

    def __post_init__(self) -> None:
        if self.image.views is not None or self.image.resize != "squash":
            raise ConfigError(
                "a model of regions sees whole pictures: give image.resize 'squash' and no image.views (a crop would "
                "cut regions off; regions.mirror turns pictures with their boxes)"
            )
        if self.image.scaled_decoding:
            raise ConfigError("boxes are in pixels of the whole picture: leave image.scaled_decoding off")
        if self.text.negatives or self.text.pad_to_max:
            raise ConfigError("a model of regions takes no hard negatives and no constant padding")
        if not 0 <= self.mismatched < 1:
            raise ConfigError(f"mismatched {self.mismatched} must be a share of the pairs in [0, 1)")


class _Pair(NamedTuple):
    ids: list[int]
    regions: int
    matches: bool
    seed: int


class RegionTextProcessor:
    """Samples -> `RegionTextBatch`; the same object prepares what a predictor is given.

    Attributes:
        config: plain values; with the tokenizer's file and the detector's folder it is all there is to save.
        tokenizer: of the captions.
        others: captions of other pictures, for pairs that do not match; None where all match.
        detector: the one that the configuration names.
    """

    def __init__(
        self,
        config: RegionTextConfig,
        tokenizer: Tokenizer,
        others: OtherCaptions | None = None,
        detector: Detector | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.others = others
        self.detector = detector
        self._pairs = ImageTextProcessor(ImageTextConfig(config.image, config.text), tokenizer)

    def layout(self) -> Mapping[str, Field]:
        size = self.config.image.size
        return {"pixels": Field((size, size, 3)), "boxes": Field((self.config.regions.room, 4), "float32")}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> _Pair:
        """Fills the pixels and the boxes, and tokenises a caption of the picture or of another one.

        Raises:
            BadSample: no picture, one that cannot be decoded, "no caption", "empty caption", "no boxes" or "bad box".
        """
        caption, _ = self._pairs.texts(sample, draw)
        by_key = draw or Draw(0, 0, sample.key)
        other = self.others and self.others.draw(sample.texts, by_key, self.config.mismatched)
        ids = self.tokenizer.encode([other or caption], self.config.text.max_length)[0]
        if len(ids) <= self.tokenizer.num_control or says_nothing(self.tokenizer, caption):
            raise BadSample(sample.key, "empty caption", f"{caption!r} has no words")
        turned = draw is not None and draw.rng("mirror").random() < self.config.regions.mirror
        regions = self._fill(rows, image_of(sample), sample.boxes, sample.key, turned)
        return _Pair(ids, regions, other is None, by_key.integer("noise"))

    def _fill(self, rows: Rows, image: Image, known: Sequence[Box], key: str, turned: bool = False) -> int:
        """Writes one picture and its regions; how many there are."""
        started = perf_counter()
        pixels_HWC = decode(image, key)  # whole: boxes are in its own pixels
        decoded = perf_counter()
        boxes_R4: Boxes = regions_of(pixels_HWC, known or image.boxes, key, self.config.regions, self.detector)
        squash_into(rows["pixels"], pixels_HWC, self.config.image.kernel)
        if turned:
            rows["pixels"][:] = rows["pixels"][:, ::-1].copy()
            boxes_R4 = mirrored(boxes_R4)
        rows["boxes"][: len(boxes_R4)] = boxes_R4
        rows["boxes"][len(boxes_R4) :] = 0
        spent.decode += decoded - started
        spent.augment += perf_counter() - decoded
        return len(boxes_R4)

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[_Pair]) -> RegionTextBatch:
        tokens_BT, lengths_B = pad_tokens([item.ids for item in items], self.tokenizer.pad_id)
        return RegionTextBatch(
            keys,
            _pictures(arrays, [item.regions for item in items]),
            tokens_BT,
            lengths_B,
            torch.tensor([item.matches for item in items]),
            tuple(item.seed for item in items),
        )

    def preview(self, batch: RegionTextBatch) -> list[Preview]:
        """The squashed pictures, and the captions as their tokens say them."""
        said = read_back(self.tokenizer, batch.tokens_BT, batch.lengths_B, self.config.text.max_length)
        pixels_BHWC = batch.pictures.pixels_NCHW.permute(0, 2, 3, 1).numpy()
        return [
            Preview(key, pixels_HWC, text if matches else f"{text} (of another picture)", tokens)
            for key, pixels_HWC, (text, tokens), matches in zip(
                batch.keys, pixels_BHWC, said, batch.matches_B.tolist(), strict=True
            )
        ]

    def pictures(self, visuals: Sequence[Any], threads: int = 2) -> Pictures:
        """Pictures with their regions, as a predictor is given them.

        Args:
            visuals: Images (with the boxes that are known of them), paths, bytes, PIL images or arrays.

        Raises:
            DataError: a picture is not there or cannot be decoded, or its regions are bad.
        """
        images = [as_image(value) for value in visuals]
        arrays = {name: np.empty((len(images), *one.shape), np.dtype(one.dtype)) for name, one in self.layout().items()}

        def fill(index: int) -> int:
            rows = {name: array[index] for name, array in arrays.items()}
            return self._fill(rows, images[index], (), images[index].name or f"picture {index}")

        with ThreadPoolExecutor(max(threads, 1), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            counts = list(pool.map(fill, range(len(images))))
        return _pictures({name: torch.from_numpy(array) for name, array in arrays.items()}, counts)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """tokens_NT and lengths_N of strings.

        Raises:
            DataError: one of them has no words.
        """
        for text in texts:
            if says_nothing(self.tokenizer, text):
                raise DataError(f"{text!r} has no words: there is nothing to match with a picture")
        return self._pairs.tokens(texts)


def says_nothing(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is empty, blank, or made of nothing but control tokens spelled out."""
    for spelled in (MASK, *(str(tokenizer.backend.id_to_token(index)) for index in tokenizer.control_ids)):
        text = text.replace(spelled, "")
    return not text.strip()


def _pictures(arrays: Mapping[str, Tensor], counts: Sequence[int]) -> Pictures:
    boxes_NR4 = arrays["boxes"][:, : max(counts, default=0)]
    return Pictures(arrays["pixels"].permute(0, 3, 1, 2), boxes_NR4, torch.tensor(counts, dtype=torch.int64))
