"""Captions without a captioner: one sentence for everything, or what was said of pictures that look alike.

What a captioner is worth is what it adds to these (Devlin et al. 2015, arXiv 1505.04467, who found the consensus of
neighbours as good as the captioners of their day).

N pictures, M others, S captions of all of them, G n-grams, K neighbours, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import DataError
from diptych.evaluation.metrics.caption_cider import SIGMA
from diptych.evaluation.metrics.caption_grams import ORDERS
from diptych.evaluation.metrics.caption_references import ReferenceGrams, References
from diptych.evaluation.metrics.captioning import CaptionScorer
from diptych.evaluation.metrics.ptb_tokenizer import ptb_tokens

NEIGHBOURS = 30
_CLOSER_LOOK = 10


def typical_caption(references: Sequence[Sequence[str]]) -> str:
    """The sentence of the data that, said of every picture, gets the highest CIDEr-D.

    Every sentence is ranked by its mean cosine with all others, and the first ten are tried.

    Args:
        references: of every picture, one or more each.

    Raises:
        DataError: there is no picture, or one without a reference.
    """
    texts = list(chain.from_iterable(references))
    vectors_SG = _vectors(References([[ptb_tokens(text) for text in said] for said in references]))
    alike_S = vectors_SG @ np.asarray(vectors_SG.mean(0)).ravel()
    order: list[int] = np.argsort(-alike_S, kind="stable").tolist()
    tried = list(dict.fromkeys(texts[index] for index in order))[:_CLOSER_LOOK]
    scorer = CaptionScorer(references)
    cider = [float(scorer.values([text] * len(references)).cider_R.mean()) for text in tried]
    return tried[int(np.argmax(cider))]


def nearest_captions(image_ND: Tensor, other_MD: Tensor, said: Sequence[Sequence[str]]) -> list[str]:
    """For each picture the first caption of the other picture that is nearest by cosine.

    Args:
        said: of each of the M other pictures, one or more captions.

    Raises:
        DataError: not as many lists of captions as pictures, or one is empty.
    """
    return [said[index][0] for index in _neighbours(image_ND, other_MD, said, 1)[:, 0].tolist()]


def consensus_captions(
    image_ND: Tensor, other_MD: Tensor, said: Sequence[Sequence[str]], neighbours: int = NEIGHBOURS
) -> list[str]:
    """For each picture the caption of its nearest others that is most like all the captions of these.

    Alike is what CIDEr-D calls so, without its clipping: cosines of n-grams weighed by how few pictures they are said
    of, less where the lengths differ.

    Args:
        said: of each of the M other pictures, one or more captions.
        neighbours: how many others; all where there are fewer.

    Raises:
        DataError: not as many lists of captions as pictures, or one is empty.
    """
    near_NK = _neighbours(image_ND, other_MD, said, min(neighbours, len(said))).numpy()
    texts = list(chain.from_iterable(said))
    references = References([[ptb_tokens(text) for text in of_one] for of_one in said])
    vectors_SG = _vectors(references)
    first_M = np.searchsorted(references.picture_S, np.arange(len(said) + 1))
    found = []
    for near_K in near_NK:
        pool = np.concatenate([np.arange(first_M[index], first_M[index + 1]) for index in near_K])
        found.append(texts[pool[_most_alike(vectors_SG[pool], references.length_S[pool])]])
    return found


def _most_alike(vectors_PG: Any, length_P: NDArray[np.int64]) -> int:
    """The position of the sentence whose mean likeness to the others is highest; the nearest picture's on a tie."""
    apart_PP = length_P[:, None] - length_P[None, :]
    alike_PP = (vectors_PG @ vectors_PG.T).toarray() * np.exp(-np.square(apart_PP) / (2 * SIGMA**2))
    np.fill_diagonal(alike_PP, 0.0)
    return int(np.argmax(alike_PP.sum(1).round(12)))


def _neighbours(image_ND: Tensor, other_MD: Tensor, said: Sequence[Sequence[str]], count: int) -> Tensor:
    """[N, K]: positions of the nearest others, the nearest first; of equally near ones the first."""
    if len(said) != len(other_MD) or not len(said) or not all(said):
        raise DataError(f"{len(other_MD)} pictures and captions of {len(said)}: give each one caption or more")
    cosine_NM = F.normalize(image_ND, dim=-1) @ F.normalize(other_MD, dim=-1).T
    return torch.argsort(cosine_NM, dim=1, descending=True, stable=True)[:, :count]


def _vectors(references: References) -> Any:
    """[S, G] sparse: for each caption unit vectors of its n-grams of every order, halved, so that the product of two
    rows is the mean of the four cosines."""
    return sparse.hstack([_unit(of, len(references.picture_S)) for of in references.orders]).tocsr() / ORDERS**0.5


def _unit(of: ReferenceGrams, sentences: int) -> Any:
    """[S, G] of one order; a caption that says only what is said of every picture has a row of zeros."""
    counts = of.counts
    norm_E = of.norm_S[counts.sentence_E]
    weight_E = np.divide(counts.count_E * of.idf_G[counts.gram_E], norm_E, out=np.zeros(len(norm_E)), where=norm_E > 0)
    return sparse.csr_matrix((weight_E, (counts.sentence_E, counts.gram_E)), (sentences, len(counts.distinct_G)))
