"""Texts with places to fill in."""

from __future__ import annotations

import reprlib

from diptych.core.errors import TextTooLong
from diptych.data.words.tokenizer import Tokenizer
from diptych.data.words.word_masking import require_mask

MASK = "[MASK]"
"""How a place to fill in is written, for every model alike."""


def cloze_ids(tokenizer: Tokenizer, text: str, max_length: int, pieces: int = 1) -> list[int]:
    """Ids of a text in which every "[MASK]" is a place to fill.

    Args:
        text: words and places, with blanks between them.
        max_length: the longest row, control tokens included.
        pieces: how many mask tokens stand in each place: a word may be several tokens.

    Raises:
        ConfigError: the tokenizer has no mask token.
        TextTooLong: the text does not fit.
    """
    mask_id = require_mask(tokenizer)
    head = [] if tokenizer.start_id is None else [tokenizer.start_id]
    parts = text.split(MASK)
    body = word_ids(tokenizer, parts[0])
    for part in parts[1:]:
        body += [mask_id] * pieces + word_ids(tokenizer, part)
    ids = [*head, *body, tokenizer.end_id]
    if len(ids) > max_length:
        raise TextTooLong(f"{reprlib.repr(text)} has {len(ids)} tokens, of which {max_length} fit: shorten it")
    return ids


def word_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of words, without control tokens."""
    if not text.strip():
        return []
    return list(tokenizer.backend.encode(text.strip(), add_special_tokens=False).ids)
