"""Conversations as tokens: what is said, where pictures stand, and what is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tokenizers

from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample
from diptych.core.sample import Turn
from diptych.data.pixels.images import ImagePreprocessing
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


class ConversationTokens(NamedTuple):
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


class ConversationReader:
    """Reads turns as tokens, with pictures at their places and a label for all that the assistant says.

    Pictures stand where a turn says "<image>", and before the first turn of the user where none does.

    Args:
        template: writes turns as one text.
    """

    def __init__(self, config: ConversationConfig, tokenizer: Tokenizer, template: Template) -> None:
        self.config, self.tokenizer, self.template = config, tokenizer, template
        # A second backend, by which control tokens that the template writes are what they say.
        self._backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
        self._backend.encode_special_tokens = False
        added = self._backend.get_added_tokens_decoder().values()
        self._control = tuple(sorted(one.content for one in added if one.special and one.content != IMAGE))

    def read(self, turns: Sequence[Turn], pictures: int, key: str) -> ConversationTokens:
        """A conversation as tokens with what is learned of it.

        Raises:
            BadSample: too long, or more pictures than places, with both numbers.
            DataError: there is no answer, or the template refuses it.
        """
        self._check(turns, pictures, key)
        text, answers = rendered(self.template, with_places(turns, pictures, key), key)
        return self._as_tokens(text, answers, pictures, key)._replace(asked=_asked(turns))

    def opened(self, turns: Sequence[Turn], pictures: int, key: str) -> ConversationTokens:
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

    def _as_tokens(self, text: str, answers: Sequence[Span], pictures: int, key: str) -> ConversationTokens:
        pieces = text.split(IMAGE)
        if len(pieces) - 1 != pictures:
            raise BadSample(
                key, "no place for a picture",
                f"the chat template leaves {len(pieces) - 1} places ({IMAGE}) for {pictures} pictures",
            )  # fmt: skip
        learned = np.zeros(len(text) + 1, dtype=bool)
        for begin, end in answers:
            learned[begin:end] = True
        found, at = ConversationTokens([], [], []), 0
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

    def _add_picture(self, found: ConversationTokens) -> None:
        slots = self.config.slots
        found.tokens.extend([self.tokenizer.pad_id] * slots)
        found.labels.extend([IGNORED] * slots)
        found.places.extend([True] * slots)

    def _add_words(
        self, found: ConversationTokens, piece: str, learned: np.ndarray[tuple[int], np.dtype[np.bool_]]
    ) -> None:
        encoding = self._backend.encode(piece, add_special_tokens=False)
        for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            found.tokens.append(token)
            found.labels.append(token if learned[begin:end].any() else IGNORED)
            found.places.append(False)

    def text_of(self, ids: Sequence[int]) -> str:
        """Tokens as text, control tokens by their names."""
        return str(self._backend.decode(ids, skip_special_tokens=False))


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
