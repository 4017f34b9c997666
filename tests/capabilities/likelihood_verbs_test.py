"""Scores and answers that follow from likelihoods: their numbers, and over what they may be compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import ToyPredictor

from diptych.capabilities.generator import Likelihood
from diptych.capabilities.verbs import RULES, Comparable, Verb, comparable_by_rule, reachable
from diptych.core.errors import DiptychError


def picture(colour: int) -> np.ndarray:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[..., colour] = 200
    return pixels


RED, BLUE = picture(0), picture(2)


class Speaks(ToyPredictor):
    """A word costs 1 where the picture has the text's colour, 2 where not, 3 without a picture; a prompt's word 0.5."""

    VERBS: tuple[str, ...] = ("text_likelihood",)

    def text_likelihood(self, visuals: Sequence[Any], prompts: Sequence[str], texts: Sequence[str]) -> Likelihood:
        counts = torch.tensor([len(text.split()) + 1 for text in texts])
        costs = [self._cost(visual, text) for visual, text in zip(visuals, texts, strict=True)]
        asked = torch.tensor([0.5 * len(prompt.split()) for prompt in prompts], dtype=torch.float64)
        return Likelihood(-torch.tensor(costs, dtype=torch.float64) * counts - asked, counts)

    def _cost(self, visual: Any, text: str) -> float:
        if visual is None:
            return 3.0
        return 2.0 - float((self.encode_image([visual]) * self.encode_text([text])).sum())


class Paints(ToyPredictor):
    VERBS: tuple[str, ...] = ("image_likelihood",)
    likelihood_is = "exact"

    def image_likelihood(self, texts: Sequence[str | None], visuals: Sequence[Any]) -> Likelihood:
        own = (self.encode_image(visuals) * self.encode_text([text or "" for text in texts])).sum(-1)
        return Likelihood(10 * own.double() - 40, torch.full((len(texts),), 12))


def test_text_likelihood_gives_scores_per_token() -> None:
    model = Speaks()
    assert model.verbs == {"text_likelihood", "score_pairs", "score", "answer"}
    assert model.how("score_pairs") == "log-likelihood of the text per token"
    assert model.how("score") == "matching score of every pair"
    assert model.score_pairs([RED, RED], ["red", "a very blue thing"]).tolist() == [-1.0, -2.0]
    expected = torch.tensor([[-1.0, -2.0], [-2.0, -1.0]], dtype=torch.float64)
    assert torch.equal(model.score([RED, BLUE], ["a red one", "blue"]), expected)
    assert model.comparable_over is Comparable.BOTH
    with pytest.raises(DiptychError, match="got 2 visuals and 1 texts"):
        model.score_pairs([RED, RED], ["red"])


def test_image_likelihood_gives_scores_of_the_texts_of_one_picture() -> None:
    model = Paints()
    assert model.verbs == {"image_likelihood", "score_pairs", "score", "answer"}
    assert model.how("score_pairs") == "log-likelihood of the picture given the text"
    assert model.how("answer") == "highest score over the choices"
    assert model.score_pairs([RED, RED], ["red", "blue"]).tolist() == [-30.0, -40.0]
    assert model.score([RED, BLUE], ["red"]).tolist() == [[-30.0], [-40.0]]
    assert model.comparable_over is Comparable.TEXTS
    with pytest.raises(DiptychError, match="got 1 visuals and 2 texts"):
        model.score_pairs([RED], ["red", "blue"])


def test_an_answer_is_the_likeliest_choice_as_a_whole() -> None:
    model = Speaks()
    assert model.how("answer") == "likeliest of the choices"
    choices = [["green", "red"], ["blue", "red"]]
    assert model.answer([RED, BLUE], ["colour?"] * 2, choices) == ["red", "blue"]
    # Whole answers: two words of the right colour cost 3, one word of the wrong one 4, four right ones 5.
    assert model.answer([RED], ["?"], [["red thing", "blue"]]) == ["red thing"]
    assert model.answer([RED], ["?"], [["a quite red thing", "blue"]]) == ["blue"]
    with pytest.raises(DiptychError, match="give it those of each question"):
        model.answer([RED], ["?"])


class Both(Speaks):
    VERBS = ("encode_image", "encode_text", "text_likelihood")


class Limited(ToyPredictor):
    VERBS = ("score",)
    comparable_over = Comparable.TEXTS

    def score(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return self.encode_image(visuals) @ self.encode_text(texts).T


def test_cosine_comes_first_where_a_model_has_both() -> None:
    model = Both()
    assert model.how("score") == "cosine of encodings"
    assert model.how("score_pairs") == "cosine of each pair's encodings"
    assert model.score([RED], ["red"]).tolist() == [[1.0]]
    assert model.how("answer") == "likeliest of the choices"


def test_what_a_model_says_of_its_own_score_stands() -> None:
    assert Limited().comparable_over is Comparable.TEXTS
    assert Limited.comparable_over is Comparable.TEXTS


@pytest.mark.parametrize(
    ("native", "over"),
    [
        (("encode_image", "encode_text"), Comparable.BOTH),
        (("score",), Comparable.BOTH),
        (("score_pairs",), Comparable.BOTH),
        (("text_likelihood",), Comparable.BOTH),
        (("image_likelihood",), Comparable.TEXTS),
        (("text_likelihood", "image_likelihood"), Comparable.BOTH),
        (("encode_image", "encode_text", "image_likelihood"), Comparable.BOTH),
        (("score_pairs", "image_likelihood"), Comparable.BOTH),
        (("encode_image",), Comparable.BOTH),
    ],
)
def test_comparability_follows_the_rules(native: tuple[str, ...], over: Comparable) -> None:
    assert comparable_by_rule(native) is over
    if Verb.SCORE in reachable(native):
        assert comparable_by_rule(native, Verb.SCORE_PAIRS) is over


def test_every_rule_that_makes_a_score_of_no_score_says_over_what() -> None:
    for rule in RULES:
        if rule.verb in (Verb.SCORE, Verb.SCORE_PAIRS):
            from_scores = set(rule.needs) & {Verb.SCORE, Verb.SCORE_PAIRS}
            assert (rule.comparable is None) == bool(from_scores), rule
