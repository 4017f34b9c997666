"""Words for the places of a text, from a model that predicts single tokens.

N texts, M mask tokens of a text, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.words.cloze import MASK, cloze_ids, word_ids
from diptych.data.words.tokenizer import Tokenizer, pad_tokens
from diptych.data.words.word_masking import require_mask
from diptych.models._batches import batches

BATCH = 256


class Places(NamedTuple):
    """Texts with mask tokens, and where these are.

    Attributes:
        texts_N: which of the texts that were given each row is of.
        tokens_NT, lengths_N: padded rows.
        places_NM: of the mask tokens, 0 where a row has fewer.
    """

    texts_N: list[int]
    tokens_NT: Tensor
    lengths_N: Tensor
    places_NM: Tensor


Predict = Callable[[Places], Tensor]
"""Logits [N, M, V] at the places."""


class _Row(NamedTuple):
    text: int
    pieces: int
    ids: list[int]


def fill_text(
    tokenizer: Tokenizer, max_length: int, texts: Sequence[str], choices: Sequence[Sequence[str]] | None,
    predict: Predict,
) -> list[list[str]]:  # fmt: skip
    """For each text the words for its "[MASK]"s, in order; of `choices[i]` where they are given.

    Without choices a word is the likeliest single token that is no control token. With them a word of n tokens is given
    n mask tokens, and the word with the highest mean log-probability of its tokens is taken.

    Raises:
        ConfigError: the tokenizer has no mask token.
        DiptychError: a text does not fit, or the choices are not one non-empty list of words a text.
    """
    words = _words(tokenizer, texts, choices)
    rows = [
        _Row(index, pieces, cloze_ids(tokenizer, text, max_length, pieces))
        for index, text in enumerate(texts)
        if MASK in text
        for pieces in sorted({len(ids) for ids in words[index].values()} or {1})
    ]
    best: list[dict[int, tuple[float, str]]] = [{} for _ in texts]
    for row, logits_MV in _predicted(tokenizer, rows, predict):
        found = _best_tokens(tokenizer, logits_MV) if choices is None else _best_words(logits_MV, row, words[row.text])
        for place, candidate in enumerate(found):
            held = best[row.text].get(place)
            if held is None or candidate[0] > held[0]:
                best[row.text][place] = candidate
    return [[word for _, word in (of_text[place] for place in sorted(of_text))] for of_text in best]


def _words(
    tokenizer: Tokenizer, texts: Sequence[str], choices: Sequence[Sequence[str]] | None
) -> list[dict[str, list[int]]]:
    """The ids of each text's choices."""
    if choices is None:
        return [{} for _ in texts]
    if len(choices) != len(texts):
        raise DiptychError(f"fill_text takes a list of choices for each text: got {len(choices)} for {len(texts)}")
    words = [{word: word_ids(tokenizer, word) for word in some} for some in choices]
    for text, some in zip(texts, words, strict=True):
        if not some or not all(some.values()):
            raise DiptychError(f"the choices for {text!r} must be words, at least one, none of them empty")
    return words


def _predicted(tokenizer: Tokenizer, rows: Sequence[_Row], predict: Predict) -> Iterator[tuple[_Row, Tensor]]:
    """Each row with its logits at its own places, in float32 on the CPU."""
    mask_id = require_mask(tokenizer)
    for some in batches(rows, BATCH):
        places = [[place for place, index in enumerate(row.ids) if index == mask_id] for row in some]
        tokens_NT, lengths_N = pad_tokens([row.ids for row in some], tokenizer.pad_id)
        places_NM, counts_N = pad_tokens(places, 0)
        logits_NMV = predict(Places([row.text for row in some], tokens_NT, lengths_N, places_NM)).float().cpu()
        for row, logits_MV, count in zip(some, logits_NMV, counts_N.tolist(), strict=True):
            yield row, logits_MV[:count]


def _best_tokens(tokenizer: Tokenizer, logits_MV: Tensor) -> list[tuple[float, str]]:
    logits_MV = logits_MV.clone()
    logits_MV[:, sorted(tokenizer.control_ids)] = -torch.inf
    values_M, ids_M = logits_MV.max(-1)
    return [(value, tokenizer.decode([index])) for value, index in zip(values_M.tolist(), ids_M.tolist(), strict=True)]


def _best_words(logits_MV: Tensor, row: _Row, words: dict[str, list[int]]) -> list[tuple[float, str]]:
    """Of each place the best word of as many tokens as the row has mask tokens for."""
    chances_PKV = logits_MV.log_softmax(-1).reshape(-1, row.pieces, logits_MV.shape[-1])
    fitting = {word: ids for word, ids in words.items() if len(ids) == row.pieces}
    ids_WK = torch.tensor(list(fitting.values()))
    scores_PW = torch.stack([chances_PKV[:, k, ids_WK[:, k]] for k in range(row.pieces)]).mean(0)
    values_P, which_P = scores_PW.max(-1)
    names = list(fitting)
    return [(value, names[index]) for value, index in zip(values_P.tolist(), which_P.tolist(), strict=True)]
