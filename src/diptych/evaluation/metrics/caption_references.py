"""What is said of every picture, counted once, so that captions can be scored as they come.

N pictures, S references of all of them, G distinct n-grams of one order, E distinct pairs of a reference and an n-gram,
M distinct pairs of a picture and an n-gram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError
from diptych.evaluation.metrics.caption_grams import GramCounts, gram_counts, lengths_of, summed


@dataclass(frozen=True)
class ReferenceGrams:
    """The n-grams of one order in the references.

    Attributes:
        counts: of every reference.
        idf_G: log of the pictures over those that any reference says the n-gram of.
        norm_S: of each reference's vector of counts times idf.
        pair_M: picture * G + n-gram, ascending.
        most_M: the largest count among the picture's references.
    """

    counts: GramCounts
    idf_G: NDArray[np.float64]
    norm_S: NDArray[np.float64]
    pair_M: NDArray[np.int64]
    most_M: NDArray[np.int64]


class References:
    """The references of a corpus.

    Args:
        tokens: of every reference of every picture.

    Attributes:
        tokens: as given.
        picture_S: the picture of each reference; length_S its tokens.
        orders: a `ReferenceGrams` each.

    Raises:
        DataError: there is no picture, or one has no reference.
    """

    def __init__(self, tokens: Sequence[Sequence[Sequence[str]]]) -> None:
        if not tokens:
            raise DataError("there are no captions to score: give one or more candidates with their references")
        if without := [index for index, said in enumerate(tokens) if not said]:
            raise DataError(f"candidate {without[0]} has no reference: give each picture one or more, or leave it out")
        self.tokens = tokens
        sentences = list(chain.from_iterable(tokens))
        self.picture_S: NDArray[np.int64] = np.repeat(np.arange(len(tokens)), lengths_of(tokens))  # type: ignore[arg-type]
        self.length_S = lengths_of(sentences)
        self.orders = [_indexed(counts, self.picture_S, len(tokens)) for counts in gram_counts(sentences)]

    def __len__(self) -> int:
        return len(self.tokens)

    def row_of_references(self, picture_R: NDArray[np.int64]) -> NDArray[np.int64]:
        """[S]: at which row of candidates each reference's picture stands; -1 where it is not among them."""
        row_N = np.full(len(self), -1)
        row_N[picture_R] = np.arange(len(picture_R))
        found: NDArray[np.int64] = row_N[self.picture_S]
        return found


def _indexed(counts: GramCounts, picture_S: NDArray[np.int64], pictures: int) -> ReferenceGrams:
    number = len(counts.distinct_G)
    pair_E = picture_S[counts.sentence_E] * number + counts.gram_E
    order_E = np.argsort(pair_E, kind="stable")
    pair_M, first_M = np.unique(pair_E[order_E], return_index=True)
    most_M = np.maximum.reduceat(counts.count_E[order_E], first_M) if number else counts.count_E
    said_G = np.bincount(pair_M % number, minlength=number) if number else np.zeros(0)
    idf_G = np.log(pictures) - np.log(said_G)
    square_E = np.square(counts.count_E * idf_G[counts.gram_E])
    norm_S = np.sqrt(summed(counts.sentence_E, square_E, len(picture_S)))
    return ReferenceGrams(counts, idf_G, norm_S, pair_M, most_M)
