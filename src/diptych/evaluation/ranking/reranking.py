"""Two stages of retrieval: cosines choose a few candidates for every query, a matching head puts these in order.

As two-stage systems do (Li et al. 2021, ALBEF, arXiv 2107.07651, section 4): the fast scores are of encodings, which
are made once a picture and once a text; the matching head looks at a picture and a text together, which costs a pass a
pair, so it sees the first k of every query only. What is not among these keeps its place behind them.

N pictures, M captions, Q queries, X candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities.encodings import scores_by_vectors
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError
from diptych.core.seeding import hash_to_int
from diptych.evaluation.benchmark import Records
from diptych.evaluation.ranking.candidates import Candidates
from diptych.evaluation.ranking.pair_rows import pair_rows

Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]


def require_two_stages(model: Predictor, k: int) -> None:
    """Looks whether a model has both stages.

    Raises:
        ConfigError: it has no encodings, or no `score_pairs` of its own.
    """
    if not scores_by_vectors(model):
        raise ConfigError(
            f"retrieval.rerank {k} needs a fast first stage: {model.name} has no encodings whose cosines rank; "
            f"set rerank to 0"
        )
    if Verb.SCORE_PAIRS not in model.VERBS:
        raise ConfigError(
            f"retrieval.rerank {k} needs a matching head: {model.name} has score_pairs only by a rule "
            f"('{model.how(Verb.SCORE_PAIRS)}'), which would put candidates in the order they have; set rerank to 0"
        )


def reranked(model: Predictor, first: Candidates, k: int, ways: Sequence[str], records: Records) -> dict[str, Scores]:
    """For each way the scores [Q, X] that give the final order: higher is earlier, ties are ties.

    Args:
        first: the cosines, and what they are of.
        k: how many candidates of each query the matching head puts in order.
        ways: of "image_to_text" and "text_to_image".
    """
    by_way = {way: first.scores_NM if way == "image_to_text" else first.scores_NM.T for way in ways}
    chosen = {way: first_k(scores_QX, k, records.seed) for way, scores_QX in by_way.items()}
    wanted_NM = np.zeros(first.scores_NM.shape, bool)
    for way, chosen_QX in chosen.items():
        wanted_NM |= chosen_QX if way == "image_to_text" else chosen_QX.T
    columns = [np.flatnonzero(row) for row in wanted_NM]
    pairs_NM = np.zeros_like(first.scores_NM)
    for index, row in pair_rows(model, first.samples, first.texts, columns, records).items():
        pairs_NM[index, columns[index]] = row
    pairs = {way: pairs_NM if way == "image_to_text" else pairs_NM.T for way in ways}
    return {way: in_order(by_way[way], pairs[way], chosen[way]) for way in ways}


def first_k(scores_QX: Scores, k: int, seed: int) -> Mask:
    """[Q, X]: the k best of every query; among equals a seeded order decides, not the place in the data."""
    candidates = scores_QX.shape[1]
    order_X = np.random.Generator(np.random.PCG64(hash_to_int("rerank", seed))).permutation(candidates)
    best_QK = order_X[np.argsort(-scores_QX[:, order_X], axis=1, kind="stable")[:, :k]]
    chosen_QX = np.zeros(scores_QX.shape, bool)
    np.put_along_axis(chosen_QX, best_QK, True, axis=1)
    return chosen_QX


def in_order(cosines_QX: Scores, pairs_QX: Scores, chosen_QX: Mask) -> Scores:
    """The chosen before all others, among themselves by their pair scores; the others by their cosines."""
    final_QX = cosines_QX.astype(np.float32)
    for query, chosen_X in enumerate(chosen_QX):
        _, place = np.unique(pairs_QX[query, chosen_X], return_inverse=True)
        final_QX[query, chosen_X] = 2 + place  # a cosine is 1 at most
    return final_QX
