"""A question whose candidate answers a model puts in order, by how likely or how fitting each is.

M candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities.generator import Likelihood
from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.visual import Image
from diptych.evaluation.encoding import batched

_AT_ONCE = 32
"""Candidates of one question in one call."""


@dataclass(frozen=True)
class Ranked:
    """One question.

    Attributes:
        key: of its record.
        picture: which picture it is about: the unit of intervals.
        image: reads it; None where the user does not have it.
        said: what was said before.
        candidates: the M answers.
        right: the position of the true one.
        relevance: what people think of each; () where they were not asked.
    """

    key: str
    picture: str
    image: Callable[[], Image | None]
    said: tuple[str, ...]
    question: str
    candidates: tuple[str, ...]
    right: int
    relevance: tuple[float, ...] = ()


def ranks_by_likelihood(model: Predictor) -> bool:
    """Whether candidates are ranked by their likelihood; by `score` otherwise."""
    return Verb.TEXT_LIKELIHOOD in model.verbs


def candidate_scores(model: Any, one: Ranked, image: Image, per_token: bool, history: bool) -> NDArray[np.float64]:
    """[M], higher is better: log p(candidate | picture, what was said, question), or the score of question and answer.

    Raises:
        BadSample: the picture cannot be decoded.
        TextTooLong: question and candidate do not fit.
        NotANumber: the model answers NaN.
    """
    found: list[float] = []
    prompt = " ".join([*one.said, one.question]) if history else one.question
    for some in batched(one.candidates, _AT_ONCE):
        if ranks_by_likelihood(model):
            likely: Likelihood = model.text_likelihood([image] * len(some), [prompt] * len(some), some)
            scores = likely.mean() if per_token else likely.log_N
        else:
            scores = model.score([image], [f"{one.question} {candidate}" for candidate in some])[0]
        found += checked(scores, model, one.key).double().tolist()
    return np.array(found)
