"""Texts with places to fill in, as rows of ids, and the words that their places are given.

M masked places of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.cloze import MASK, cloze_ids, word_ids
from diptych.data.text import Tokenizer


class Row(NamedTuple):
    """One question to the model.

    Attributes:
        text: which text it is of.
        ids: with `pieces` mask tokens in every place.
    """

    text: int
    ids: list[int]
    pieces: int


class Cloze(NamedTuple):
    """A text, and what may stand in its places.

    Attributes:
        places: how many there are.
        words: each choice with its ids; None for any token.
        rows: one for each number of tokens that a choice has.
    """

    places: int
    words: tuple[tuple[str, tuple[int, ...]], ...] | None
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, index: int, text: str, longest: int, choices: Sequence[str] | None) -> Self:
        """The rows of one text; none where nothing is to be filled in.

        Raises:
            DiptychError: it does not fit, or there is no choice that has tokens.
        """
        places = text.count(MASK)
        if choices is None:
            words, sizes = None, [1]
        else:
            words = tuple((word, tuple(word_ids(tokenizer, word))) for word in choices)
            sizes = sorted({len(ids) for _, ids in words})
        if places and (not sizes or sizes[0] == 0):
            raise DiptychError(f"the choices for {text!r} are {list(choices or ())}: give words, each with some text")
        rows = [Row(index, cloze_ids(tokenizer, text, longest, size), size) for size in sizes if places]
        return cls(places, words, tuple(rows))


def best_words(tokenizer: Tokenizer, cloze: Cloze, log_probabilities: Sequence[Tensor]) -> list[str]:
    """The likeliest word for each place; of equals the first choice.

    Args:
        log_probabilities: [M, V] of each row's masked places, M = places * pieces.
    """
    if not cloze.rows:
        return []
    if cloze.words is None:
        banned = sorted(tokenizer.control_ids)
        allowed_MV = log_probabilities[0].index_fill(1, torch.tensor(banned), -torch.inf)
        return [tokenizer.decode([index]) for index in allowed_MV.argmax(1).tolist()]
    by_size = {row.pieces: found_MV for row, found_MV in zip(cloze.rows, log_probabilities, strict=True)}
    scores_PW = torch.stack([_word_scores(by_size[len(ids)], ids) for _, ids in cloze.words], dim=1)
    return [cloze.words[index][0] for index in scores_PW.argmax(1).tolist()]


def _word_scores(found_MV: Tensor, ids: tuple[int, ...]) -> Tensor:
    """The mean log-probability of a word's tokens in each place."""
    pieces = found_MV.unflatten(0, (-1, len(ids)))
    return pieces[:, torch.arange(len(ids)), torch.tensor(ids)].mean(1)
