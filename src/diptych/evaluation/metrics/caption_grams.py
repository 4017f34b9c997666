"""Sentences as numbers: n-grams by 64-bit hashes, counted over a whole corpus at once.

S sentences, T tokens of all of them, P places where an n-gram stands, E distinct pairs of a sentence and an n-gram,
G distinct n-grams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from diptych.core.seeding import hash_to_int

ORDERS = 4
"""BLEU and CIDEr look at n-grams of one to so many tokens."""

_MIX = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying by it loses nothing; two n-grams of a million share a hash with probability 3e-8."""


@dataclass(frozen=True)
class GramCounts:
    """The n-grams of one order in every sentence.

    Attributes:
        distinct_G: uint64, the hashes, ascending.
        sentence_E, gram_E: which sentence, and which position in `distinct_G`; ordered by both.
        count_E: how often.
    """

    distinct_G: NDArray[np.uint64]
    sentence_E: NDArray[np.int64]
    gram_E: NDArray[np.int64]
    count_E: NDArray[np.int64]


def lengths_of(sentences: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """[S], in tokens."""
    return np.fromiter(map(len, sentences), np.int64, len(sentences))


def gram_counts(sentences: Sequence[Sequence[str]]) -> Iterator[GramCounts]:
    """Of every order, the shortest first."""
    length_S = lengths_of(sentences)
    token_T = _hashes(sentences)
    sentence_T = np.repeat(np.arange(len(sentences)), length_S)
    gram_P = token_T
    for order in range(1, ORDERS + 1):
        if order > 1:
            gram_P = gram_P[:-1] * _MIX + token_T[order - 1 :]
        within_P = sentence_T[: len(gram_P)] == sentence_T[order - 1 :]
        yield _counted(sentence_T[: len(gram_P)][within_P], gram_P[within_P])


def places(sorted_G: NDArray[np.generic], wanted_N: NDArray[np.generic]) -> NDArray[np.int64]:
    """[N]: where each stands in an ascending array; -1 where it does not."""
    if len(sorted_G) == 0:
        return np.full(len(wanted_N), -1, np.int64)
    at_N = np.searchsorted(sorted_G, wanted_N)
    at_N[at_N == len(sorted_G)] = 0
    return np.where(sorted_G[at_N] == wanted_N, at_N, -1)


def summed(
    row_E: NDArray[np.int64], value_E: NDArray[np.int64] | NDArray[np.float64], rows: int
) -> NDArray[np.float64]:
    """[rows]: the sum of the values of each row; of none too, where `bincount` alone would give integers."""
    return np.bincount(row_E, value_E, rows).astype(np.float64)


def _hashes(sentences: Sequence[Sequence[str]]) -> NDArray[np.uint64]:
    """[T]: every token's, the same whatever else is in the corpus."""
    tokens = list(chain.from_iterable(sentences))
    known = {token: hash_to_int("token", token, bits=64) for token in set(tokens)}
    return np.fromiter(map(known.__getitem__, tokens), np.uint64, len(tokens))


def _counted(sentence_P: NDArray[np.int64], gram_P: NDArray[np.uint64]) -> GramCounts:
    distinct_G, which_P = np.unique(gram_P, return_inverse=True)
    if len(distinct_G) == 0:
        none = np.zeros(0, np.int64)
        return GramCounts(distinct_G, none, none, none)
    pair_E, count_E = np.unique(sentence_P * len(distinct_G) + which_P, return_counts=True)
    return GramCounts(distinct_G, pair_E // len(distinct_G), pair_E % len(distinct_G), count_E)
