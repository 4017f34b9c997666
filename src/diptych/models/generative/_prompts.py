"""Prompts: the token that texts begin with, and checks of texts that are to become pictures."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

from diptych.core.errors import ConfigError, DiptychError, TextTooLong
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.data.words.tokenizer import Tokenizer


def check_prompts(texts: Sequence[str], processor: ImageTextProcessor) -> None:
    """Raises a DiptychError where a prompt has no words, TextTooLong where it does not fit."""
    check_words(texts)
    check_lengths(texts, processor)


def check_words(texts: Sequence[str]) -> None:
    """Raises a DiptychError where a prompt has no words."""
    if empty := [place for place, text in enumerate(texts) if not text.strip()]:
        raise DiptychError(f"prompt {empty[0]} has no words: say what the picture is to show")


def check_lengths(texts: Sequence[str], processor: ImageTextProcessor) -> None:
    """Raises TextTooLong where a text does not fit the context."""
    most = processor.config.text.max_length
    for text, ids in zip(texts, processor.tokenizer.encode(texts, most + 1), strict=True):
        if len(ids) > most:
            raise TextTooLong(f"{reprlib.repr(text)} is longer than the {most} tokens that fit: shorten it")


def start_of(tokenizer: Tokenizer) -> int:
    """The token that every text is written from.

    Raises:
        ConfigError: the vocabulary has none.
    """
    if tokenizer.start_id is None:
        raise ConfigError("this tokenizer has no start token, from which a text is written: fit one, or name another")
    return tokenizer.start_id
