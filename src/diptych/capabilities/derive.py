"""Verbs had from other verbs, one function for each rule in verbs.RULES."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.generator import Likelihood
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import RULES, Origin, Rule, Verb
from diptych.core.errors import DiptychError

PAIRS = 256
"""The most pairs that a derived score asks for in one call."""


def derived(model: Predictor, origin: Origin, verb: Verb) -> Callable[..., Any]:
    """The function that answers `verb` for a model which has it by a rule."""
    assert origin.rule is not None, f"{type(model).__name__} declares '{verb}' in VERBS but does not define it"
    return _FUNCTIONS[origin.rule](model)


def _cosine_score(model: Any) -> Callable[[Sequence[Any], Sequence[str]], Tensor]:
    def score(visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        product: Tensor = model.encode_image(visuals) @ model.encode_text(texts).T
        return product

    return score


def _score_of_pairs(model: Any) -> Callable[[Sequence[Any], Sequence[str]], Tensor]:
    def score(visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        pairs = [(visual, text) for visual in range(len(visuals)) for text in range(len(texts))]
        found = []
        for at in range(0, len(pairs), PAIRS):
            first, second = zip(*pairs[at : at + PAIRS], strict=True)
            found.append(model.score_pairs(_some(visuals, first), [texts[text] for text in second]))
        return torch.cat(found).reshape(len(visuals), -1) if found else torch.zeros(len(visuals), len(texts))

    return score


def _cosine_pairs(model: Any) -> Callable[[Sequence[Any], Sequence[str]], Tensor]:
    def score_pairs(visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        same_length(visuals, texts)
        product: Tensor = (model.encode_image(visuals) * model.encode_text(texts)).sum(-1)
        return product

    return score_pairs


def _scored_pairs(model: Any) -> Callable[[Sequence[Any], Sequence[str]], Tensor]:
    def score_pairs(visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        same_length(visuals, texts)
        rows = [model.score(_some(visuals, [index]), [text])[0, 0] for index, text in enumerate(texts)]
        return torch.stack(rows) if rows else torch.zeros(0)

    return score_pairs


def _text_likelihood_pairs(model: Any) -> Callable[[Sequence[Any], Sequence[str]], Tensor]:
    def score_pairs(visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        same_length(visuals, texts)
        found: Likelihood = model.text_likelihood(visuals, [""] * len(texts), texts)
        return found.mean()

    return score_pairs


def _image_likelihood_pairs(model: Any) -> Callable[[Sequence[Any], Sequence[str]], Tensor]:
    def score_pairs(visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        same_length(visuals, texts)
        found: Likelihood = model.image_likelihood(texts, visuals)
        return found.log_N

    return score_pairs


def _answer_by_likelihood(model: Any) -> Callable[..., list[str]]:
    def answer(
        visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        if choices is None:
            raise DiptychError(f"{model.name} answers by the likelihood of choices: give it those of each question")
        answers = []
        for visual, question, options in zip(visuals, questions, choices, strict=True):
            # The whole probability of each answer, its end included, so lengths need no correction.
            found: Likelihood = model.text_likelihood([visual] * len(options), [question] * len(options), options)
            answers.append(options[int(found.log_N.argmax())])
        return answers

    return answer


def _answer_by_score(model: Any) -> Callable[..., list[str]]:
    def answer(
        visuals: Sequence[Any], questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        if choices is None:
            raise DiptychError(f"{model.name} answers by scoring: give it the choices of each question")
        answers = []
        for visual, question, options in zip(visuals, questions, choices, strict=True):
            scores = model.score([visual], [f"{question} {option}".strip() for option in options])
            answers.append(options[int(scores[0].argmax())])
        return answers

    return answer


def _some(visuals: Any, positions: Sequence[int]) -> Any:
    """The visuals at these positions; of prepared pictures a tensor again."""
    return visuals[list(positions)] if isinstance(visuals, Tensor) else [visuals[index] for index in positions]


def same_length(visuals: Sized, texts: Sized, verb: str = Verb.SCORE_PAIRS) -> None:
    """Raises a DiptychError where a verb is not given one text a visual."""
    if len(visuals) != len(texts):
        raise DiptychError(f"{verb} takes one text a visual: got {len(visuals)} visuals and {len(texts)} texts")


_FUNCTIONS: dict[Rule, Callable[[Any], Callable[..., Any]]] = dict(
    zip(
        RULES,
        (
            _cosine_score,
            _score_of_pairs,
            _cosine_pairs,
            _scored_pairs,
            _text_likelihood_pairs,
            _image_likelihood_pairs,
            _answer_by_likelihood,
            _answer_by_score,
        ),
        strict=True,
    )
)
