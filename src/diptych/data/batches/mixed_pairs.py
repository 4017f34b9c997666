"""Pairs, pictures alone and texts alone in one batch, masked: what FLAVA trains on.

A sample is what it has: a picture, texts or both. Masks are drawn here, as functions of (seed, epoch, key), so a batch
carries both what a model reads and what it is asked.

B batch, T tokens, P patches, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample, Field, Preview, Rows
from diptych.core.sample import Sample
from diptych.core.seeding import Draw, unit_interval
from diptych.data.batches.image_text import ImageTextBatch, ImageTextConfig, ImageTextProcessor
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.pixels.block_masking import BlockMasking, hidden_blocks
from diptych.data.pixels.images import fill_pixels, image_of
from diptych.data.words.tokenizer import Tokenizer
from diptych.data.words.word_masking import mask_words, require_mask


class Kind(IntEnum):
    """What a row of a batch is."""

    MATCHED = 0
    MISMATCHED = 1
    PICTURE = 2
    TEXT = 3


PAIRS = (Kind.MATCHED, Kind.MISMATCHED)


@dataclass(frozen=True)
class Masks:
    """What is hidden, and what a pair is made into.

    Attributes:
        patches: blocks of hidden patches.
        words: the share of a text's tokens that is predicted.
        mismatched: the share of pairs whose caption is exchanged for one of another picture.
        alone: the shares of pairs that are treated as a picture alone and as a text alone.
    """

    patches: BlockMasking = field(default_factory=BlockMasking)
    words: float = 0.15
    mismatched: float = 0.25
    alone: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not 0 <= self.mismatched < 1:
            raise ConfigError(f"mismatched {self.mismatched} of the pairs: give a share from 0 to less than 1")
        if min(self.alone) < 0 or sum(self.alone) > 1:
            raise ConfigError(f"alone {self.alone}: give the shares of pairs taken as pictures and as texts alone")
        if not 0 < self.words <= 1:
            raise ConfigError(f"masking {self.words} of the words: give a share above 0 and up to 1")


@dataclass(frozen=True, kw_only=True)
class MixedBatch(ImageTextBatch):
    """Rows of several kinds; what a kind does not have is filled with something that means nothing.

    Attributes:
        kinds: of the rows.
        hidden_BP: bool, True where a patch is hidden; nowhere in a text alone.
        masked_BT: the tokens with some hidden.
        labels_BT: int64, the true id where one is asked for; nowhere in a picture alone.
        asked: how many patches and words each row is asked for.
        codes_BP: the code of each patch, where the data bring them; None where the model's own codebook tells them.
    """

    kinds: tuple[Kind, ...]
    hidden_BP: Tensor
    masked_BT: Tensor
    labels_BT: Tensor
    asked: tuple[tuple[int, int], ...]
    codes_BP: Tensor | None = None

    def places(self, *kinds: Kind) -> list[int]:
        """The rows that are of one of these kinds, in order of the kinds given and of the batch."""
        return [row for kind in kinds for row, own in enumerate(self.kinds) if own is kind]


class _Row(NamedTuple):
    kind: Kind
    ids: list[int]
    seed: int


class MixedPairsProcessor(ImageTextProcessor):
    """Samples -> `MixedBatch`. A predictor needs none of it: a model is saved with the plain processor's configuration.

    Attributes:
        masks: plain values.
        grid: patches along a side of a picture.
        others: captions of other pictures; None where every pair matches.
    """

    def __init__(
        self, config: ImageTextConfig, tokenizer: Tokenizer, grid: int, masks: Masks, others: OtherCaptions | None
    ) -> None:
        super().__init__(config, tokenizer)
        require_mask(tokenizer)
        if masks.mismatched and others is None:
            raise ConfigError("mismatched pairs need captions of other pictures: give them, or set mismatched to 0")
        if config.image.size % grid:
            raise ConfigError(f"pictures of {config.image.size} pixels cannot be cut into {grid} x {grid} patches")
        self.masks, self.grid, self.others = masks, grid, others

    def layout(self) -> Mapping[str, Field]:
        return {**super().layout(), "hidden": Field((self.grid, self.grid), "bool")}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> Any:
        """Fills the pixels and the mask, and tokenises the caption, of whatever the sample has and is taken as.

        Raises:
            BadSample: neither picture nor text, a picture that cannot be decoded, or "empty caption".
        """
        choices = draw or Draw(0, 0, sample.key)
        kind, caption = self._taken_as(sample, draw, choices)
        if kind is Kind.TEXT:
            rows["pixels"][:], rows["hidden"][:] = 0, False
        else:
            fill_pixels(rows["pixels"], image_of(sample), sample.key, self.config.image, draw)
            rng = choices.rng("patches")
            rows["hidden"][:] = hidden_blocks(rng, self.grid, self.grid, self.masks.patches)
        ids = self.tokenizer.encode([caption], self.config.text.max_length)[0]
        if kind is not Kind.PICTURE and len(ids) <= self.tokenizer.num_control:
            raise BadSample(sample.key, "empty caption", f"{caption!r} has no tokens")
        return _Row(kind, ids, choices.integer("noise"))

    def _taken_as(self, sample: Sample, draw: Draw | None, choices: Draw) -> tuple[Kind, str]:
        """What the sample is in this epoch, and its text; "" where it has none."""
        if not sample.texts:
            if not sample.visuals:
                raise BadSample(sample.key, "nothing in it", "neither a picture nor a text")
            return Kind.PICTURE, ""
        caption = self.texts(sample, draw).caption
        if not sample.visuals:
            return Kind.TEXT, caption
        pictures, texts = self.masks.alone
        place = unit_interval("alone", choices.seed, choices.epoch, choices.key)
        if place < pictures:
            return Kind.PICTURE, ""
        if place < pictures + texts:
            return Kind.TEXT, caption
        other = self.others.draw(sample.texts, choices, self.masks.mismatched) if self.others else None
        return (Kind.MATCHED, caption) if other is None else (Kind.MISMATCHED, other)

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[Any]) -> MixedBatch:
        rows: Sequence[_Row] = items
        tokens_BT, lengths_B = self._padded([row.ids for row in rows])
        seeds = tuple(row.seed for row in rows)
        words = mask_words(seeds, tokens_BT, lengths_B, self.tokenizer, self.masks.words)
        hidden_BP = arrays["hidden"].flatten(1)
        asked = zip(hidden_BP.sum(1).tolist(), (words.labels_BT >= 0).sum(1).tolist(), strict=True)
        return MixedBatch(
            keys=keys,
            pixels_BCHW=arrays["pixels"].permute(0, 3, 1, 2),
            tokens_BT=tokens_BT,
            lengths_B=lengths_B,
            seeds=seeds,
            kinds=tuple(row.kind for row in rows),
            hidden_BP=hidden_BP,
            masked_BT=words.tokens_BT,
            labels_BT=words.labels_BT,
            asked=tuple(asked),
        )

    def preview(self, batch: ImageTextBatch) -> list[Preview]:
        """The views with hidden patches in grey, and the masked captions beside the whole ones, by kind."""
        assert isinstance(batch, MixedBatch)
        whole = super().preview(batch)
        masked = super().preview(replace(batch, tokens_BT=batch.masked_BT))
        side = self.config.image.size // self.grid
        shown = []
        for row, kind in enumerate(batch.kinds):
            hidden_RC = batch.hidden_BP[row].reshape(self.grid, self.grid).numpy()
            picture_HWC = np.array(whole[row].picture_HWC)
            picture_HWC[np.kron(hidden_RC, np.ones((side, side), np.bool_))] = 128
            said = f"{kind.name.lower()}: {whole[row].text} (read as: {masked[row].text})"
            shown.append(whole[row]._replace(picture_HWC=picture_HWC, text=said))
        return shown


def as_mixed(pairs: ImageTextBatch, **more: Any) -> MixedBatch:
    """A batch of pairs with what a mixed one has more."""
    return MixedBatch(**{one.name: getattr(pairs, one.name) for one in fields(pairs)}, **more)
