"""Conversations about pictures as batches for a language model: tokens, where pictures stand, and what is learned.

B conversations, T tokens, N pictures of all of them, C channels, H height, W width, S features of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from typing import NamedTuple, Self

import numpy as np
import tokenizers
import torch
from torch import Tensor

from diptych.core.errors import ConfigError, DataError
from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample, Field, Preview, Rows, TokenCount
from diptych.core.sample import Sample, Turn
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.data.cached.picture_features import PictureFeatures
from diptych.data.pixels.images import ImagePreprocessing, fill_pixels
from diptych.data.words.chat import IMAGE, Span, Template, rendered
from diptych.data.words.tokenizer import Tokenizer


@dataclass(frozen=True)
class ConversationConfig:
    """How conversations are prepared.

    Attributes:
        image: preprocessing.
        slots: tokens of the language model that a picture takes: the one number from which everything is counted.
        pictures: the most pictures of a conversation.
        max_length: the longest conversation in tokens, pictures counted.
        prompt: what is asked where a sample has a caption and no conversation.
    """

    image: ImagePreprocessing
    slots: int
    pictures: int = 1
    max_length: int = 256
    prompt: str = ""

    def __post_init__(self) -> None:
        if min(self.slots, self.pictures) < 1:
            raise ConfigError(f"slots {self.slots} and pictures {self.pictures} must be at least 1")
        if self.max_length <= self.slots:
            raise ConfigError(f"a picture of {self.slots} tokens does not fit conversations of {self.max_length}")


class Read(NamedTuple):
    """A conversation as tokens.

    Attributes:
        tokens: ids, of a picture `slots` times the padding.
        labels: what is learned: the token itself where the assistant says it, IGNORED elsewhere.
        places: whether a token is one of a picture's.
        asked: all that the user says, pictures left out.
    """

    tokens: list[int]
    labels: list[int]
    places: list[bool]
    asked: str = ""


@dataclass(frozen=True)
class ConversationBatch:
    """Conversations, padded at the right.

    Attributes:
        keys: of the samples.
        tokens_BT: int64; anything at pictures.
        labels_BT: int64, IGNORED where nothing is learned; of the token itself, not of the next one.
        places_BT: bool, True at pictures' tokens: those of each picture follow one another.
        lengths_B: int64.
        pixels_NCHW: uint8 in channels-last strides, the first conversation's pictures first.
        counts: pictures of each conversation.
        seeds: one 63-bit integer a sample.
        features_NSC: in the place of pixels, cached features of the tower; None where it is to see the pictures.
    """

    keys: tuple[str, ...]
    tokens_BT: Tensor
    labels_BT: Tensor
    places_BT: Tensor
    lengths_B: Tensor
    pixels_NCHW: Tensor
    counts: tuple[int, ...]
    seeds: tuple[int, ...]
    features_NSC: Tensor | None = field(default=None, kw_only=True)

    @property
    def num_samples(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Self:
        """Copies to a device; without waiting where the memory is pinned."""
        names = ("tokens_BT", "labels_BT", "places_BT", "lengths_B", "pixels_NCHW")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        features = None if self.features_NSC is None else self.features_NSC.to(device, non_blocking=True)
        return replace(self, **moved, features_NSC=features)

    def split(self, n: int) -> Sequence[Self]:
        """Micro-batches of at most `n` conversations, in order, each padded as the whole is."""
        ends = [0, *accumulate(self.counts)]
        return [self._part(begin, min(begin + n, len(self.keys)), ends) for begin in range(0, len(self.keys), n)]

    def _part(self, begin: int, end: int, ends: Sequence[int]) -> Self:
        rows, shown = slice(begin, end), slice(ends[begin], ends[end])
        return replace(
            self,
            keys=self.keys[rows],
            tokens_BT=self.tokens_BT[rows],
            labels_BT=self.labels_BT[rows],
            places_BT=self.places_BT[rows],
            lengths_B=self.lengths_B[rows],
            pixels_NCHW=self.pixels_NCHW[shown],
            counts=self.counts[rows],
            seeds=self.seeds[rows],
            features_NSC=None if self.features_NSC is None else self.features_NSC[shown],
        )


class Conversation(NamedTuple):
    """A conversation, how many pictures it has, and the seed of its noise."""

    read: Read
    pictures: int
    seed: int


class ConversationProcessor:
    """Samples -> `ConversationBatch`; the same object reads the prompts of a predictor.

    A sample is its `turns`; without any it is a caption, and `prompt` asks for it. Pictures stand where a turn says
    "<image>", and before the first turn of the user where none does.

    Args:
        features: cached features of the tower; where given, the pictures of samples are never decoded.
    """

    def __init__(
        self, config: ConversationConfig, tokenizer: Tokenizer, template: Template,
        features: PictureFeatures | None = None,
    ) -> None:  # fmt: skip
        self.config, self.tokenizer, self.template, self.features = config, tokenizer, template, features
        # A second reader, by which control tokens that the template writes are what they say.
        self._reader = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
        self._reader.encode_special_tokens = False
        added = self._reader.get_added_tokens_decoder().values()
        self._control = tuple(sorted(one.content for one in added if one.special and one.content != IMAGE))

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

    def read(self, turns: Sequence[Turn], pictures: int, key: str) -> Read:
        """A conversation as tokens with what is learned of it.

        Raises:
            BadSample: too long, or more pictures than places, with both numbers.
            DataError: there is no answer, or the template refuses it.
        """
        self._check(turns, pictures, key)
        text, answers = rendered(self.template, with_places(turns, pictures, key), key)
        return self._as_tokens(text, answers, pictures, key)._replace(asked=_asked(turns))

    def opened(self, turns: Sequence[Turn], pictures: int, key: str) -> Read:
        """A conversation whose next turn is the assistant's, as a prompt.

        Raises:
            BadSample: as for `read`.
        """
        self._check(turns, pictures, key)
        text = self.template.render(with_places(turns, pictures, key), opens=True)
        return self._as_tokens(text, (), pictures, key)._replace(asked=_asked(turns))

    def _check(self, turns: Sequence[Turn], pictures: int, key: str) -> None:
        """Refuses more pictures than fit, and words that would be read as control tokens: those are the template's."""
        written = next((one for one in self._control for turn in turns if one in turn.text), None)
        if written is not None:
            raise BadSample(key, "control token in a turn", f"somebody says {written!r}, which only the template may")
        if pictures > self.config.pictures:
            raise BadSample(key, "too many pictures", f"{pictures} pictures, and at most {self.config.pictures} fit")

    def _as_tokens(self, text: str, answers: Sequence[Span], pictures: int, key: str) -> Read:
        pieces = text.split(IMAGE)
        if len(pieces) - 1 != pictures:
            raise BadSample(
                key, "no place for a picture",
                f"the chat template leaves {len(pieces) - 1} places ({IMAGE}) for {pictures} pictures",
            )  # fmt: skip
        learned = np.zeros(len(text) + 1, dtype=bool)
        for begin, end in answers:
            learned[begin:end] = True
        found, at = Read([], [], []), 0
        for place, piece in enumerate(pieces):
            if place:
                self._add_picture(found)
                at += len(IMAGE)
            self._add_words(found, piece, learned[at : at + len(piece)])
            at += len(piece)
        if len(found.tokens) > self.config.max_length:
            raise BadSample(
                key, "conversation too long",
                f"{len(found.tokens)} tokens, {pictures * self.config.slots} of them pictures', and "
                f"{self.config.max_length} fit: nothing is cut",
            )  # fmt: skip
        return found

    def _add_picture(self, found: Read) -> None:
        slots = self.config.slots
        found.tokens.extend([self.tokenizer.pad_id] * slots)
        found.labels.extend([IGNORED] * slots)
        found.places.extend([True] * slots)

    def _add_words(self, found: Read, piece: str, learned: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        encoding = self._reader.encode(piece, add_special_tokens=False)
        for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            found.tokens.append(token)
            found.labels.append(token if learned[begin:end].any() else IGNORED)
            found.places.append(False)

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
            said = self._reader.decode(ids, skip_special_tokens=False)
            pieces.append(f"«{said}»" if kind == "learned" else said)
        return " ".join(pieces)


def _asked(turns: Sequence[Turn]) -> str:
    said = (turn.text.replace(IMAGE, " ") for turn in turns if turn.role == "user")
    return " ".join(" ".join(said).split())


def with_places(turns: Sequence[Turn], pictures: int, key: str) -> list[Turn]:
    """The turns with a place for each picture: those that are there, or all before the user's first words."""
    there = sum(turn.text.count(IMAGE) for turn in turns)
    if there == pictures:
        return list(turns)
    if there:
        raise BadSample(key, "no place for a picture", f"{there} places ({IMAGE}) for {pictures} pictures")
    first = next((place for place, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise BadSample(key, "no place for a picture", "nobody asks, so there is nowhere to show it")
    shown = "\n".join([IMAGE] * pictures)
    text = turns[first].text
    asked = replace(turns[first], text=f"{shown}\n{text}" if text else shown)
    return [*turns[:first], asked, *turns[first + 1 :]]
