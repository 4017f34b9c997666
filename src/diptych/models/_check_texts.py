"""Checks that captions and vocabulary fit the model that reads them."""

from __future__ import annotations

from typing import Protocol

from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer


class TextSizes(Protocol):
    """Of whatever reads words."""

    @property
    def context(self) -> int:
        """The most tokens of a text."""
        ...

    @property
    def vocab_size(self) -> int:
        """How many tokens it knows."""
        ...


def check_texts(text: TextSizes, settings: TextPreprocessing, tokenizer: Tokenizer) -> None:
    """Raises a ConfigError when captions or vocabulary do not fit, with both numbers."""
    if settings.max_length > text.context:
        raise ConfigError(f"texts of up to {settings.max_length} tokens do not fit a context of {text.context}")
    if tokenizer.vocab_size > text.vocab_size:
        raise ConfigError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {text.vocab_size} embeddings")
