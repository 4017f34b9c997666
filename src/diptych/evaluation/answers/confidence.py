"""How sure a model is of its answer to a question."""

from __future__ import annotations

from typing import Any

import torch

from diptych.capabilities.generator import Likelihood
from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError
from diptych.core.visual import Image
from diptych.evaluation.answers.questions import Asking, Question, chooses


def require_confidence(model: Predictor, asking: Asking) -> None:
    """Looks whether the model can say how sure it is.

    Raises:
        ConfigError: it writes, and does not say how likely a text is.
    """
    if Verb.TEXT_LIKELIHOOD not in model.verbs and not chooses(model, asking):
        raise ConfigError(
            f"{model.name} does not say how likely its answers are (no '{Verb.TEXT_LIKELIHOOD}'), so there is nothing "
            f"to select by: leave 'selective' off"
        )


def confidence(model: Any, question: Question, image: Image, answer: str, asking: Asking) -> float:
    """The probability of the answer, 0 to 1: as it is written, or among the choices where the model chose.

    With choices it is the softmax over their log-likelihoods, or over their scores: of these only the order means
    something.
    """
    prompt = asking.prompt.replace("{}", question.text)
    texts = list(question.choices) if chooses(model, asking) else [answer]
    if Verb.TEXT_LIKELIHOOD in model.verbs:
        found: Likelihood = model.text_likelihood([image] * len(texts), [prompt] * len(texts), texts)
        log = checked(found.log_N, model, question.key).double()
    else:
        log = checked(model.score([image], [f"{prompt} {text}".strip() for text in texts])[0], model, question.key)
    if not chooses(model, asking):
        return float(log[0].exp())
    return float(torch.softmax(log.double(), 0).max())
