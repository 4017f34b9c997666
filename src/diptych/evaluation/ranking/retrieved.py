"""Right and wrong examples of retrieval for a report's gallery.

Q queries, X candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.evaluation.ranking.candidates import Candidates

_EXAMPLES = 8
_TOP = 3

Ranks = NDArray[np.int64]
Scores = NDArray[np.float32]


def image_examples(rank_Q: Ranks, scores_QX: Scores, found: Candidates) -> list[dict[str, Any]]:
    """Pictures that ask for their captions."""
    return [
        {
            "key": found.samples[i].key,
            "query": "",
            "right": bool(rank_Q[i] == 1),
            "rank": int(rank_Q[i]),
            "truth": found.samples[i].texts[0],
            "top": [found.texts[j] for j in _best(scores_QX[i])],
        }
        for i in _some(rank_Q)
    ]


def text_examples(rank_Q: Ranks, scores_QX: Scores, found: Candidates) -> list[dict[str, Any]]:
    """Captions that ask for their picture."""
    keys = [sample.key for sample in found.samples]
    return [
        {
            "key": keys[found.owner_M[j]],
            "query": found.texts[j],
            "right": bool(rank_Q[j] == 1),
            "rank": int(rank_Q[j]),
            "truth": keys[found.owner_M[j]],
            "top": [{"key": keys[i]} for i in _best(scores_QX[j])],
        }
        for j in _some(rank_Q)
    ]


def _best(scores_X: Scores) -> list[int]:
    order: list[int] = np.argsort(-scores_X, kind="stable")[:_TOP].tolist()
    return order


def _some(rank_Q: Ranks) -> list[int]:
    """A few right and a few wrong queries, spread over the data."""
    right, wrong = np.flatnonzero(rank_Q == 1), np.flatnonzero(rank_Q > 1)
    chosen: list[int] = []
    for group in (right, wrong):
        if len(group):
            chosen += group[np.linspace(0, len(group) - 1, min(_EXAMPLES // 2, len(group))).astype(int)].tolist()
    return chosen
