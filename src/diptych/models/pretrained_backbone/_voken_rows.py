"""Samples as conversations that end in a picture: what is told, and the picture that its vokens stand for.

B samples, K vokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample, Field, Preview, Rows
from diptych.core.sample import Sample, Turn
from diptych.core.seeding import Draw
from diptych.core.visual import Image, Visual
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.batches.conversation_reader import ConversationTokens
from diptych.data.batches.conversations import Conversation, ConversationProcessor
from diptych.data.batches.image_text import ImageTextBatch, ImageTextProcessor
from diptych.data.words.chat import IMAGE
from diptych.models.pretrained_backbone._conversation_predictor import written_out

_TOLD, _DRAWN = "told ", "drawn "
"""Before the names of either half's arrays."""


@dataclass(frozen=True)
class VokenBatch:
    """Conversations, each with one picture that its vokens stand for.

    Attributes:
        told: the conversations, vokens among them.
        drawn: the pictures, each with the text that says what it shows.
    """

    told: ConversationBatch
    drawn: ImageTextBatch

    @property
    def keys(self) -> tuple[str, ...]:
        return self.told.keys

    @property
    def num_samples(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Self:
        """Copies to a device."""
        return type(self)(self.told.to(device), self.drawn.to(device))

    def split(self, n: int) -> Sequence[Self]:
        """Micro-batches of at most `n` conversations, in order."""
        return [type(self)(*halves) for halves in zip(self.told.split(n), self.drawn.split(n), strict=True)]


class Asked(NamedTuple):
    """A sample as a conversation whose last turn ends in a picture.

    Attributes:
        turns: the last is the assistant's, without the picture.
        shown: the pictures that are told, in order.
        picture: the one that is drawn.
        text: what it shows.
    """

    turns: tuple[Turn, ...]
    shown: tuple[Visual, ...]
    picture: Visual
    text: str


class VokenProcessor:
    """Samples -> `VokenBatch`.

    A document (`parts`) is read up to the text before one of its pictures; the assistant says that text, then the
    picture. A conversation whose last answer ends in "<image>" is read as it is. Any other sample is a caption: the
    user asks for a picture of it, and the picture is all that is said.

    Args:
        talk: reads what is told; its `prompt` stands before a caption.
        drawing: prepares the pictures that are drawn.
        vokens: the ids of a picture's.

    Raises:
        ConfigError: the vokens leave no room for words.
    """

    def __init__(self, talk: ConversationProcessor, drawing: ImageTextProcessor, vokens: Sequence[int]) -> None:
        if len(vokens) >= talk.config.max_length:
            raise ConfigError(f"{len(vokens)} vokens leave no room in conversations of {talk.config.max_length} tokens")
        self.talk, self.drawing, self.vokens = talk, drawing, list(vokens)

    def layout(self) -> Mapping[str, Field]:
        told = {f"{_TOLD}{name}": field for name, field in self.talk.layout().items()}
        return told | {f"{_DRAWN}{name}": field for name, field in self.drawing.layout().items()}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> tuple[Conversation, Any]:
        """Fills the pixels of both halves and reads the conversation.

        Raises:
            BadSample: no picture, no text before it, a clip, too long, or a picture that cannot be decoded.
        """
        asked = asked_of(sample, self.talk.config.prompt, draw)
        told = Sample(sample.key, asked.shown, turns=asked.turns)
        conversation = self.talk.prepare(told, draw, _half(rows, _TOLD))
        pair = Sample(sample.key, (asked.picture,), (asked.text,))
        drawn = self.drawing.prepare(pair, draw, _half(rows, _DRAWN))
        return conversation._replace(read=self.with_vokens(conversation.read, sample.key)), drawn

    def with_vokens(self, read: ConversationTokens, key: str) -> ConversationTokens:
        """A conversation with a picture's vokens at the end of what is said, before the token that ends it.

        Raises:
            BadSample: they do not fit.
        """
        end = max(place for place, label in enumerate(read.labels) if label != IGNORED)
        end += read.tokens[end] != self.talk.tokenizer.end_id
        longest, count = self.talk.config.max_length, len(self.vokens)
        if len(read.tokens) + count > longest:
            raise BadSample(
                key, "conversation too long",
                f"{len(read.tokens)} tokens and {count} vokens of the picture that follows, and {longest} fit: nothing "
                f"is cut",
            )  # fmt: skip
        return read._replace(
            tokens=[*read.tokens[:end], *self.vokens, *read.tokens[end:]],
            labels=[*read.labels[:end], *self.vokens, *read.labels[end:]],
            places=[*read.places[:end], *[False] * count, *read.places[end:]],
        )

    def collate(
        self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[tuple[Conversation, Any]]
    ) -> VokenBatch:
        told = {name.removeprefix(_TOLD): rows for name, rows in arrays.items() if name.startswith(_TOLD)}
        drawn = {name.removeprefix(_DRAWN): rows for name, rows in arrays.items() if name.startswith(_DRAWN)}
        return VokenBatch(
            self.talk.collate(keys, told, [conversation for conversation, _ in items]),
            self.drawing.collate(keys, drawn, [pair for _, pair in items]),
        )

    def preview(self, batch: VokenBatch) -> list[Preview]:
        """The pictures that are drawn, and the conversations up to them: vokens have no text."""
        spoken = self.talk.preview(self._without_vokens(batch.told))
        pairs = self.drawing.preview(batch.drawn)
        ends = f" [{len(self.vokens)} vokens of a picture]"
        return [
            one._replace(picture_HWC=pair.picture_HWC, text=one.text + ends)
            for one, pair in zip(spoken, pairs, strict=True)
        ]

    def _without_vokens(self, told: ConversationBatch) -> ConversationBatch:
        kept_BT = told.tokens_BT < self.vokens[0]
        names = ("tokens_BT", "labels_BT", "places_BT")
        rows = {name: getattr(told, name)[kept_BT].view(told.num_samples, -1) for name in names}
        return replace(told, **rows, lengths_B=told.lengths_B - len(self.vokens))


def asked_of(sample: Sample, prompt: str, draw: Draw | None) -> Asked:
    """What is told of a sample, and which picture follows: of a document's one that is drawn, the last in evaluation.

    Raises:
        BadSample: there is no picture, or nothing is said of it.
    """
    if sample.parts:
        return _of_document(sample, draw)
    if not sample.visuals:
        raise BadSample(sample.key, "no image")
    if sample.turns and sample.turns[-1].role == "assistant" and sample.turns[-1].text.rstrip().endswith(IMAGE):
        *before, last = sample.turns
        said = last.text.rstrip().removesuffix(IMAGE).rstrip()
        text = said or before[-1].text.replace(IMAGE, " ") if before else said
        turns = (*before, Turn("assistant", said))
        return Asked(turns, sample.visuals[:-1], sample.visuals[-1], _said(text, sample.key))
    texts = [text for text in sample.texts if text.strip()]
    text = texts[0 if draw is None else int(draw.rng("caption").integers(len(texts)))] if texts else ""
    turns = (Turn("user", f"{prompt} {_said(text, sample.key)}".strip()), Turn("assistant", ""))
    return Asked(turns, (), sample.visuals[0], text)


def _of_document(sample: Sample, draw: Draw | None) -> Asked:
    parts = sample.parts
    spoken = [at for at in range(1, len(parts)) if isinstance(parts[at], Image) and isinstance(parts[at - 1], str)]
    if not spoken:
        raise BadSample(sample.key, "no text before a picture", "a document of this kind has a text, then its picture")
    at = spoken[-1 if draw is None else int(draw.rng("page").integers(len(spoken)))]
    before, text, picture = parts[: at - 1], parts[at - 1], parts[at]
    assert isinstance(text, str) and isinstance(picture, Image), "a text, then its picture"
    turns = (Turn("user", written_out(before)), Turn("assistant", _said(text, sample.key)))
    return Asked(turns, tuple(part for part in before if not isinstance(part, str)), picture, text)


def _said(text: str, key: str) -> str:
    if not text.strip():
        raise BadSample(key, "no caption", "nothing says what the picture shows")
    return text


def _half(rows: Rows, prefix: str) -> Rows:
    return {name.removeprefix(prefix): row for name, row in rows.items() if name.startswith(prefix)}
