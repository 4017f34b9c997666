"""Conversations about pictures as batches for a language model: tokens, where pictures stand, and what is learned.

B conversations, T tokens, N pictures of all of them, M pictures of a conversation at most, C channels, H height,
W width, S features of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.core.errors import DataError
from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample, Field, Preview, Rows, TokenCount
from diptych.core.sample import Sample, Turn
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.batches.conversation_reader import ConversationConfig, ConversationReader, ConversationTokens
from diptych.data.cached.picture_features import PictureFeatures
from diptych.data.pixels.images import fill_pixels
from diptych.data.words.chat import IMAGE, Template
from diptych.data.words.tokenizer import Tokenizer


class Conversation(NamedTuple):
    """A conversation, how many pictures it has, and the seed of its noise."""

    read: ConversationTokens
    pictures: int
    seed: int


class ConversationProcessor(ConversationReader):
    """Samples -> `ConversationBatch`; the same object reads the prompts of a predictor.

    A sample is its `turns`; without any it is a caption, and `prompt` asks for it.

    Args:
        features: cached features of the tower; where given, the pictures of samples are never decoded.
    """

    def __init__(
        self, config: ConversationConfig, tokenizer: Tokenizer, template: Template,
        features: PictureFeatures | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, tokenizer, template)
        self.features = features

    def layout(self) -> Mapping[str, Field]:
        if self.features is not None:
            return {"features": self.features.field(self.config.pictures)}
        size = self.config.image.size
        return {"pixels": Field((self.config.pictures, size, size, 3))}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> Conversation:
        """Fills the pixels, or the features, and reads the conversation.

        Raises:
            BadSample: no answer, more or fewer pictures than places for them, too long, a clip, or a picture that
                cannot be decoded or has no cached features.
        """
        turns = self._turns(sample, draw)
        images = [visual for visual in sample.visuals if isinstance(visual, Image)]
        if len(images) < len(sample.visuals):
            raise BadSample(sample.key, "a clip in a conversation")
        try:
            read = self.read(turns, len(images), sample.key)
        except BadSample:
            raise
        except DataError as error:
            raise BadSample(sample.key, "unusable conversation", str(error)) from error
        if self.features is not None:
            self.features.fill(rows["features"], sample.key, len(images), draw)
        for place, image in enumerate(images if self.features is None else ()):
            fill_pixels(rows["pixels"][place], image, sample.key, self.config.image, draw, f"view {place}")
        return Conversation(read, len(images), (draw or Draw(0, 0, sample.key)).integer("noise"))

    def _turns(self, sample: Sample, draw: Draw | None) -> list[Turn]:
        if sample.turns:
            return list(sample.turns)
        texts = [text for text in sample.texts if text.strip()]
        if not texts:
            raise BadSample(sample.key, "no conversation", "neither turns nor a caption")
        said = texts[0 if draw is None else int(draw.rng("caption").integers(len(texts)))]
        return [Turn("user", self.config.prompt), Turn("assistant", said)]

    def collate(
        self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[Conversation]
    ) -> ConversationBatch:
        lengths = [len(item.read.tokens) for item in items]
        shape = (len(items), max(lengths))
        tokens_BT = torch.full(shape, self.tokenizer.pad_id)
        labels_BT, places_BT = torch.full(shape, IGNORED), torch.zeros(shape, dtype=torch.bool)
        for row, (item, length) in enumerate(zip(items, lengths, strict=True)):
            tokens_BT[row, :length] = torch.tensor(item.read.tokens)
            labels_BT[row, :length] = torch.tensor(item.read.labels)
            places_BT[row, :length] = torch.tensor(item.read.places)
        counts = tuple(item.pictures for item in items)
        pixels_NCHW, features_NSC = self._shown(arrays, counts)
        seeds = tuple(item.seed for item in items)
        return ConversationBatch(
            keys,
            tokens_BT,
            labels_BT,
            places_BT,
            torch.tensor(lengths),
            pixels_NCHW,
            counts,
            seeds,
            features_NSC=features_NSC,
        )

    def _shown(self, arrays: Mapping[str, Tensor], counts: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """The pictures that there are, as pixels or as features."""
        kept_BM = torch.arange(self.config.pictures) < torch.tensor(counts)[:, None]
        if self.features is None:
            return arrays["pixels"][kept_BM].permute(0, 3, 1, 2), None
        size = self.config.image.size
        none = torch.zeros(0, 3, size, size, dtype=torch.uint8)
        return none, self.features.cut(arrays["features"][kept_BM])

    def preview(self, batch: ConversationBatch) -> list[Preview]:
        """First pictures, and conversations as their tokens say them: what is learned stands between « and »."""
        firsts = [0, *accumulate(batch.counts)][:-1]
        pixels_NHWC = batch.pixels_NCHW.permute(0, 2, 3, 1).numpy()
        found = []
        for row, (key, first, count) in enumerate(zip(batch.keys, firsts, batch.counts, strict=True)):
            length = int(batch.lengths_B[row])
            picture = pixels_NHWC[first] if count and self.features is None else None
            tokens = TokenCount(length, batch.tokens_BT.shape[1], self.config.max_length)
            found.append(Preview(key, picture, self._marked(batch, row, length), tokens))
        return found

    def _marked(self, batch: ConversationBatch, row: int, length: int) -> str:
        """A conversation with its pictures' places and marks around what is learned."""
        pieces: list[str] = []
        kinds = [
            IMAGE if shown else "learned" if label != IGNORED else "told"
            for shown, label in zip(batch.places_BT[row].tolist(), batch.labels_BT[row].tolist(), strict=True)
        ]
        at = 0
        for kind, group in groupby(kinds[:length]):
            count = len(list(group))
            ids = batch.tokens_BT[row, at : at + count].tolist()
            at += count
            if kind == IMAGE:
                pieces.append(f"[{count // self.config.slots} x {self.config.slots} of a picture]")
                continue
            said = self.text_of(ids)
            pieces.append(f"«{said}»" if kind == "learned" else said)
        return " ".join(pieces)
