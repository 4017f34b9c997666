"""The checks of generating verbs let an honest toy pass, and catch toys that cheat in one thing each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract import CAPTIONS, eight_samples
from generation_checks import documents_are_continued, drawn_pictures, pictures_are_generated, texts_are_generated
from likelihood_checks import (
    likelihood_outputs,
    pictures_have_a_likelihood,
    scores_say_what_they_compare,
    texts_have_a_likelihood,
)
from storyteller import SIDE, Storyteller

from diptych.capabilities.generator import Likelihood
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable
from diptych.core.sampling import TextSampling
from diptych.core.visual import Image

SAMPLES = eight_samples()


def text_likelihood(model: Predictor) -> None:
    texts_have_a_likelihood(model, SAMPLES, CAPTIONS)


def image_likelihood(model: Predictor) -> None:
    pictures_have_a_likelihood(model, SAMPLES, CAPTIONS)


def compared(model: Predictor) -> None:
    scores_say_what_they_compare(model, SAMPLES)


def told(model: Predictor) -> None:
    texts_are_generated(model, SAMPLES)


def painted(model: Predictor) -> None:
    pictures_are_generated(model, SAMPLES, CAPTIONS)


def continued(model: Predictor) -> None:
    documents_are_continued(model, SAMPLES)


class PaintsOnly(Storyteller):
    VERBS = ("image_likelihood",)


@pytest.mark.parametrize("check", [text_likelihood, image_likelihood, compared, told, painted, continued])
def test_an_honest_model_passes(check: Callable[[Predictor], None]) -> None:
    check(Storyteller())


def test_what_is_saved_and_compared() -> None:
    found = likelihood_outputs(Storyteller(), SAMPLES)
    assert found["text_likelihood"].shape == found["image_likelihood"].shape == (8,)
    assert drawn_pictures(Storyteller(), SAMPLES)["generate_image"].shape == (2, SIDE, SIDE, 3)
    assert drawn_pictures(PaintsOnly(), SAMPLES) == {}
    compared(PaintsOnly())


class CountsPadding(Storyteller):
    def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
        found = super().text_likelihood(visuals, prompts, texts)
        return Likelihood(found.log_N - 0.1 * max(len(text) for text in texts), found.counts_N)


class CountsLongest(Storyteller):
    def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
        found = super().text_likelihood(visuals, prompts, texts)
        return Likelihood(found.log_N, found.counts_N.max().expand(len(texts)))


class OneToken(Storyteller):
    def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
        found = super().text_likelihood(visuals, prompts, texts)
        return Likelihood(found.log_N, torch.ones_like(found.counts_N))


class AboveOne(Storyteller):
    def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
        found = super().text_likelihood(visuals, prompts, texts)
        return Likelihood(-found.log_N, found.counts_N)


class InSingle(Storyteller):
    def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
        found = super().text_likelihood(visuals, prompts, texts)
        return Likelihood(found.log_N.float(), found.counts_N)


class CutsShort(Storyteller):
    def text_likelihood(self, visuals: Any, prompts: Any, texts: Any) -> Likelihood:
        count = min(len(visuals), len(texts))
        return super().text_likelihood(visuals[:count], prompts[:count], texts[:count])


class NoiseOfTheBatch(Storyteller):
    """Its noise is of the place in the batch."""

    def image_likelihood(self, texts: Any, visuals: Any) -> Likelihood:
        found = super().image_likelihood(texts, visuals)
        return Likelihood(found.log_N - torch.arange(len(texts)), found.counts_N)


class Infinite(Storyteller):
    def image_likelihood(self, texts: Any, visuals: Any) -> Likelihood:
        found = super().image_likelihood(texts, visuals)
        return Likelihood(found.log_N / 0, found.counts_N)


class SaysNothingOfIt(Storyteller):
    likelihood_is = ""


class ComparesPictures(PaintsOnly):
    comparable_over = Comparable.BOTH  # type: ignore[assignment]


class OtherPairs(Storyteller):
    VERBS = ("text_likelihood",)

    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> torch.Tensor:
        return torch.zeros(len(texts), dtype=torch.float64)


class PromptsOfTheBatch(Storyteller):
    def generate_text(self, prompts: Any, sampling: Any = None, seeds: Any = 0) -> list[str]:
        return super().generate_text([(*prompt, str(len(prompts))) for prompt in prompts], sampling, seeds)


class OneSeed(Storyteller):
    """Whatever the seed, the same text and the same picture."""

    def told(self, prompt: Any, sampling: TextSampling, seed: int) -> str:
        return super().told(prompt, sampling, 0)

    def painted(self, text: str, seed: int) -> Image:
        return super().painted(text, 0)


class GoesOn(Storyteller):
    def told(self, prompt: Any, sampling: TextSampling, seed: int) -> str:
        return super().told(prompt, replace(sampling, max_tokens=sampling.max_tokens + 1), seed)


class AnyDraw(Storyteller):
    draws = np.random.default_rng(0)

    def told(self, prompt: Any, sampling: TextSampling, seed: int) -> str:
        return super().told(prompt, sampling, int(self.draws.integers(1 << 30)))

    def painted(self, text: str, seed: int) -> Image:
        return super().painted(text, int(self.draws.integers(1 << 30)))


class AnySeeds(Storyteller):
    def generate_text(self, prompts: Any, sampling: Any = None, seeds: Any = 0) -> list[str]:
        own = seeds if isinstance(seeds, int) or len(seeds) == len(prompts) else 0
        return super().generate_text(prompts, sampling, own)

    def generate_image(self, texts: Any, seeds: Any = 0, sampling: Any = None) -> list[Image]:
        return super().generate_image(texts, seeds if isinstance(seeds, int) or len(seeds) == len(texts) else 0)


class SeedsByPlace(Storyteller):
    def generate_image(self, texts: Any, seeds: Any = 0, sampling: Any = None) -> list[Image]:
        super().generate_image(texts, seeds)
        own = [seeds] * len(texts) if isinstance(seeds, int) else list(seeds)
        return [self.painted(text, seed + place) for place, (text, seed) in enumerate(zip(texts, own, strict=True))]


class PaintsNothing(Storyteller):
    def generate_image(self, texts: Any, seeds: Any = 0, sampling: Any = None) -> list[Image]:
        return super().generate_image([text.strip() or "nothing" for text in texts], seeds)


class InFloats(Storyteller):
    def painted(self, text: str, seed: int) -> Image:
        made = super().painted(text, seed).pixels_HWC
        assert made is not None
        return Image(pixels_HWC=made.astype(np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "check", "complaint"),
    [
        (CountsPadding, text_likelihood, "batch: "),
        (CountsLongest, text_likelihood, "counts depend on the batch"),
        (OneToken, text_likelihood, "no more tokens"),
        (AboveOne, text_likelihood, "a probability above 1"),
        (InSingle, text_likelihood, "not float64"),
        (CutsShort, text_likelihood, "not refused"),
        (NoiseOfTheBatch, image_likelihood, "batch: "),
        (Infinite, image_likelihood, "not finite"),
        (SaysNothingOfIt, image_likelihood, "does not say what its numbers are"),
        (ComparesPictures, compared, "no comparison"),
        (OtherPairs, compared, "Tensor-likes are not close|Scalars are not close"),
        (PromptsOfTheBatch, told, "depends on the batch"),
        (OneSeed, told, "seeds are not honoured"),
        (GoesOn, told, "more tokens than asked"),
        (AnyDraw, told, "depends on the batch|not the same"),
        (AnySeeds, told, "too few seeds are not refused"),
        (SeedsByPlace, painted, "depends on the batch"),
        (OneSeed, painted, "seeds are not honoured"),
        (AnyDraw, painted, "depends on the batch|not the same"),
        (AnySeeds, painted, "too few seeds are not refused"),
        (PaintsNothing, painted, "not refused"),
        (InFloats, painted, "uint8"),
        (OneSeed, continued, "seeds are not honoured"),
        (AnyDraw, continued, "not the same twice"),
        (GoesOn, continued, "more tokens than asked"),
    ],
)
def test_a_cheat_is_caught(model: type[Storyteller], check: Callable[[Predictor], None], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(model())
