"""What verbs that say how likely something is are held to, on a predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from verb_checks import refused

from diptych.capabilities.generator import Likelihood
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable, Verb
from diptych.core.sample import Sample

PROMPTS = ("", "a picture of", "")


def likelihood_outputs(predictor: Predictor, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The likelihoods of the samples' texts and pictures."""
    images, texts = [sample.image for sample in samples], [sample.texts[0] for sample in samples]
    found: dict[str, Tensor] = {}
    if Verb.TEXT_LIKELIHOOD in predictor.verbs:
        found["text_likelihood"] = predictor.text_likelihood(images, [""] * len(texts), texts).mean()
    if Verb.PROMPT_LIKELIHOOD in predictor.verbs:
        found["prompt_likelihood"] = predictor.prompt_likelihood([[one, "it is"] for one in images], texts).mean()
    if Verb.IMAGE_LIKELIHOOD in predictor.verbs:
        found["image_likelihood"] = predictor.image_likelihood(texts, images).mean()
    return found


def texts_have_a_likelihood(predictor: Predictor, samples: Sequence[Sample], captions: Sequence[str]) -> None:
    """A probability, the same alone or among others, beside longer texts and prompts, with a picture or without."""
    images = [samples[0].image, None, samples[1].image]
    rows = list(zip(images, PROMPTS, captions, strict=True))
    together = predictor.text_likelihood(images, PROMPTS, captions)
    well_formed(together, len(captions))
    assert bool((together.log_N <= 1e-6).all()), "a probability above 1"
    one_by_one(together, lambda index: predictor.text_likelihood(*([part] for part in rows[index])))
    longer = predictor.text_likelihood([images[0]] * 2, ["", ""], ["a red circle", "a red circle and a blue star"])
    assert int(longer.counts_N[1]) > int(longer.counts_N[0]), "a longer text has no more tokens"
    refused(lambda: predictor.text_likelihood(images[:1], ["", ""], ["a", "b"]))


def prompts_have_a_likelihood(predictor: Predictor, samples: Sequence[Sample], captions: Sequence[str]) -> None:
    """A probability, alone or among others, that depends on every picture of its prompt and on their order."""
    first, second, third = (sample.image for sample in samples[:3])
    prompts = [[first, "it is"], ["it is"], [first, captions[0], second, captions[1], third, "it is"]]
    together = predictor.prompt_likelihood(prompts, captions)
    well_formed(together, len(captions))
    assert bool((together.log_N <= 1e-6).all()), "a probability above 1"
    one_by_one(together, lambda index: predictor.prompt_likelihood([prompts[index]], [captions[index]]))
    others = [
        [third, captions[0], second, captions[1], third, "it is"],
        [first, captions[0], first, captions[1], third, "it is"],
        [first, captions[0], second, captions[1], first, "it is"],
        [second, captions[0], first, captions[1], third, "it is"],
    ]
    changed = predictor.prompt_likelihood(others, [captions[2]] * len(others)).log_N
    assert bool((changed != together.log_N[2]).all()), "a picture of the prompt is not looked at"
    refused(lambda: predictor.prompt_likelihood(prompts, captions[:1]))


def pictures_have_a_likelihood(predictor: Predictor, samples: Sequence[Sample], captions: Sequence[str]) -> None:
    """One number a picture and text, the same alone, among others and twice, with the noise of the picture alone."""
    assert predictor.likelihood_is, "it does not say what its numbers are"
    texts: list[str | None] = [*captions, None]
    image, other = samples[0].image, samples[1].image
    together = predictor.image_likelihood(texts, [image] * len(texts))
    well_formed(together, len(texts))
    assert len(set(together.counts_N.tolist())) == 1, "one picture has a count of numbers"
    one_by_one(together, lambda index: predictor.image_likelihood([texts[index]], [image]))
    beside = predictor.image_likelihood([captions[-1], captions[0]], [other, image])
    torch.testing.assert_close(beside.log_N[1], together.log_N[0], rtol=1e-4, atol=1e-4, msg=lambda m: f"batch: {m}")
    refused(lambda: predictor.image_likelihood(["a", "b"], [image]))


def scores_say_what_they_compare(predictor: Predictor, samples: Sequence[Sample]) -> None:
    """Scores that follow from likelihoods are these, and say over what they may be compared."""
    assert predictor.comparable_over in Comparable
    images, texts = [sample.image for sample in samples[:3]], [sample.texts[0] for sample in samples[:3]]
    how = predictor.how(Verb.SCORE_PAIRS)
    if how == "log-likelihood of the text per token":
        expected = predictor.text_likelihood(images, [""] * 3, texts).mean()
    elif how == "log-likelihood of the picture given the text":
        assert predictor.comparable_over is Comparable.TEXTS, "likelihoods of different pictures are no comparison"
        expected = predictor.image_likelihood(texts, images).log_N
    else:
        return
    torch.testing.assert_close(predictor.score_pairs(images, texts), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(predictor.score(images, texts).diagonal(), expected, rtol=1e-4, atol=1e-4)


def well_formed(found: Likelihood, count: int) -> None:
    """One finite number for each, on the CPU, of at least one token or value."""
    assert found.log_N.shape == found.counts_N.shape == (count,)
    assert found.log_N.dtype == torch.float64 and found.log_N.device.type == "cpu", "not float64 on the CPU"
    assert found.counts_N.dtype == torch.int64 and bool((found.counts_N > 0).all()), "counts are not positive int64"
    assert bool(found.log_N.isfinite().all()), "not finite"


def one_by_one(together: Likelihood, alone: Callable[[int], Likelihood]) -> None:
    """Whether each row is what it is alone."""
    for index in range(len(together.log_N)):
        own = alone(index)
        assert int(own.counts_N[0]) == int(together.counts_N[index]), "counts depend on the batch"
        torch.testing.assert_close(
            own.log_N[0], together.log_N[index], rtol=1e-4, atol=1e-4, msg=lambda message: f"batch: {message}"
        )
