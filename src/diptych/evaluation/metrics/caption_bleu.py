"""BLEU of captions (Papineni et al. 2002), as the COCO server counts it.

With the closest reference length, the shorter where two are as close, and the server's two constants: 1e-15 above and
1e-9 below every fraction, so that nothing is divided by zero and a caption without a match is not exactly 0.

R candidates, or sums over many of them; 4 orders of n-grams; S references.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.evaluation.metrics.caption_grams import ORDERS, GramCounts, places, summed
from diptych.evaluation.metrics.caption_references import References

_TINY, _SMALL = 1e-15, 1e-9
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU is computed from; it adds up over candidates.

    Attributes:
        correct_R4: n-grams of the candidate that are in a reference, each at most as often as there.
        guesses_R4: n-grams of the candidate.
        length_R, closest_R: tokens of the candidate, and of the reference closest in length.
    """

    correct_R4: Numbers
    guesses_R4: Numbers
    length_R: Numbers
    closest_R: Numbers

    def columns(self) -> Numbers:
        """[R, 10]: everything, a row each."""
        return np.column_stack([self.correct_R4, self.guesses_R4, self.length_R, self.closest_R])


def bleu(columns_R10: Numbers) -> Numbers:
    """[R, 4]: BLEU-1 to BLEU-4 of each row of counts; rows are candidates, or sums over a corpus.

    BLEU-n = exp(min(0, 1 - closest / length)) * (product over k up to n of correct_k / guesses_k) ^ (1 / n).
    """
    correct_R4, guesses_R4 = columns_R10[:, :ORDERS], columns_R10[:, ORDERS : 2 * ORDERS]
    length_R, closest_R = columns_R10[:, -2], columns_R10[:, -1]
    product_R4 = np.cumprod((correct_R4 + _TINY) / (guesses_R4 + _SMALL), axis=1)
    ratio_R = (length_R + _TINY) / (closest_R + _SMALL)
    penalty_R = np.exp(np.minimum(1 - 1 / ratio_R, 0.0))
    found: Numbers = product_R4 ** (1 / np.arange(1, ORDERS + 1)) * penalty_R[:, None]
    return found


def bleu_counts(
    references: References, picture_R: NDArray[np.int64], length_R: NDArray[np.int64], grams: list[GramCounts]
) -> BleuCounts:
    """The counts of candidates.

    Args:
        picture_R: of each candidate; none twice.
        grams: of the candidates, of every order.
    """
    correct = [_correct(references, order, picture_R, counts) for order, counts in enumerate(grams)]
    guesses_R4 = np.maximum(length_R[:, None] - np.arange(ORDERS), 0)
    return BleuCounts(
        np.stack(correct, axis=1),
        guesses_R4.astype(np.float64),
        length_R.astype(np.float64),
        _closest(references, picture_R, length_R),
    )


def _correct(references: References, order: int, picture_R: NDArray[np.int64], counts: GramCounts) -> Numbers:
    """[R]: matches of one order, clipped."""
    of = references.orders[order]
    gram_E = places(of.counts.distinct_G, counts.distinct_G)[counts.gram_E]
    pair_E = picture_R[counts.sentence_E] * len(of.counts.distinct_G) + gram_E
    at_E = np.where(gram_E >= 0, places(of.pair_M, pair_E), -1)
    said_E = at_E >= 0
    clipped = np.minimum(of.most_M[at_E[said_E]], counts.count_E[said_E])
    return summed(counts.sentence_E[said_E], clipped, len(picture_R))


def _closest(references: References, picture_R: NDArray[np.int64], length_R: NDArray[np.int64]) -> Numbers:
    """[R]: the length of the reference that is closest in length."""
    row_S = references.row_of_references(picture_R)
    row, said = row_S[row_S >= 0], references.length_S[row_S >= 0]
    order = np.lexsort((said, np.abs(said - length_R[row]), row))
    _, first_R = np.unique(row[order], return_index=True)
    return said[order][first_R].astype(np.float64)
