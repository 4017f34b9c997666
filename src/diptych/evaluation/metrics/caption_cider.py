"""CIDEr-D of captions (Vedantam, Zitnick and Parikh 2015, arXiv 1411.5726, section 5), as the COCO server computes it.

For each order of n-grams the cosine between candidate and reference, each a vector of counts times inverse document
frequency, where a candidate's count above the reference's own counts no further; times exp(-d^2 / (2 * 6^2)) of the
difference d in length; averaged over references and orders, times 10. A document is all that is said of one picture.

R candidates, S references, E distinct pairs of a sentence and an n-gram.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from diptych.evaluation.metrics.caption_grams import ORDERS, GramCounts, places, summed
from diptych.evaluation.metrics.caption_references import ReferenceGrams, References

SIGMA, SCALE = 6.0, 10.0
Numbers = NDArray[np.float64]


def cider(
    references: References, picture_R: NDArray[np.int64], length_R: NDArray[np.int64], grams: list[GramCounts]
) -> Numbers:
    """[R]: from 0, for nothing in common, to 10, for a caption that is like every reference.

    Args:
        picture_R: of each candidate; none twice.
        grams: of the candidates, of every order.
    """
    row_S = references.row_of_references(picture_R)
    used = row_S >= 0
    unseen = math.log(len(references))
    sum_S: Numbers = np.zeros(len(row_S))
    for of, counts in zip(references.orders, grams, strict=True):
        sum_S += _cosines(of, counts, row_S, len(picture_R), unseen)
    row, said = row_S[used], references.length_S[used]
    # The server takes the number of bigrams for the length: a token less, but never less than none.
    apart = np.maximum(length_R[row] - 1, 0) - np.maximum(said - 1, 0)
    total_R = summed(row, sum_S[used] * np.exp(-np.square(apart) / (2 * SIGMA**2)), len(picture_R))
    found: Numbers = SCALE * total_R / np.bincount(row, minlength=len(picture_R)) / ORDERS
    return found


def _cosines(of: ReferenceGrams, counts: GramCounts, row_S: NDArray[np.int64], rows: int, unseen: float) -> Numbers:
    """[S]: of each reference with its picture's candidate; 0 for references of other pictures.

    Args:
        unseen: the idf of an n-gram that no reference has.
    """
    number = len(of.counts.distinct_G)
    gram_E = places(of.counts.distinct_G, counts.distinct_G)[counts.gram_E]
    idf_E = np.where(gram_E >= 0, of.idf_G[gram_E] if number else 0.0, unseen)
    norm_R = np.sqrt(summed(counts.sentence_E, np.square(counts.count_E * idf_E), rows))
    dot_S = _clipped_products(of, counts, gram_E, row_S)
    length_S = of.norm_S * norm_R[np.maximum(row_S, 0)]
    found: Numbers = np.divide(dot_S, length_S, out=np.zeros_like(dot_S), where=length_S > 0)
    return found


def _clipped_products(
    of: ReferenceGrams, counts: GramCounts, gram_E: NDArray[np.int64], row_S: NDArray[np.int64]
) -> Numbers:
    """[S]: sum over n-grams of min(candidate, reference) * reference.

    Args:
        gram_E: each n-gram of the candidates among those of the references, -1 where it is not.
    """
    number, said = len(of.counts.distinct_G), gram_E >= 0
    # Both lists of hashes ascend, so the candidates' pairs of row and n-gram ascend as well.
    pair_C, count_C = (counts.sentence_E * number + gram_E)[said], counts.count_E[said]
    row_E = row_S[of.counts.sentence_E]
    here = np.flatnonzero(row_E >= 0)
    at = places(pair_C, row_E[here] * number + of.counts.gram_E[here])
    both, at = here[at >= 0], at[at >= 0]
    count_B = of.counts.count_E[both]
    product_B = np.minimum(count_C[at], count_B) * count_B * np.square(of.idf_G[of.counts.gram_E[both]])
    return summed(of.counts.sentence_E[both], product_B, len(row_S))
