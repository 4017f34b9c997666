"""What the verbs of masked models are held to, on a predictor: matching scores, words and patches filled in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import DiptychError
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.pixels.cells import hidden_pixels
from diptych.data.scenes.world import COLOURS, SHAPES
from diptych.data.words.cloze import MASK

LONGER = (f"{MASK} star", f"a {MASK} circle", f"a small {MASK} square in the top left")


def masked_outputs(predictor: Predictor, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """What it says of the samples by a matching head, and by filling in words and patches."""
    images, texts = [sample.image for sample in samples], [sample.texts[0] for sample in samples]
    found: dict[str, Tensor] = {}
    if Verb.SCORE_PAIRS in predictor.VERBS:
        found["score_pairs"] = predictor.score_pairs(images, texts)
    if Verb.FILL_TEXT in predictor.verbs:
        found["fill_text"] = filled_words(predictor, samples)
    if Verb.FILL_IMAGE in predictor.verbs:
        lower_right_122 = torch.tensor([[[False, False], [False, True]]])
        filled = predictor.fill_image(images, texts, lower_right_122.expand(len(samples), 2, 2))
        found["fill_image"] = pixels(filled) / 255
    return found


def filled_words(predictor: Predictor, samples: Sequence[Sample]) -> Tensor:
    """[N] the position of the colour that is filled in before each sample's shape."""
    texts = [f"a {MASK} {sample.meta['objects'][0]['shape']}" for sample in samples]
    words = predictor.fill_text([sample.image for sample in samples], texts, [list(COLOURS)] * len(samples))
    assert [len(one) for one in words] == [1] * len(samples), "one word a place"
    return torch.tensor([list(COLOURS).index(one[0]) for one in words])


def pixels(images: Sequence[Image]) -> Tensor:
    return torch.from_numpy(np.stack([image.pixels_HWC for image in images if image.pixels_HWC is not None]))


def pairs_are_scored(predictor: Predictor, samples: Sequence[Sample], captions: Sequence[str]) -> None:
    """One score a pair, alone or among others, whatever the lengths of the texts; a score of all pairs agrees."""
    image = samples[0].image
    together = predictor.score_pairs([image] * len(captions), list(captions))
    alone = torch.cat([predictor.score_pairs([image], [text]) for text in captions])
    assert together.shape == (len(captions),)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    if predictor.how(Verb.SCORE) == "matching score of every pair":
        images, texts = [sample.image for sample in samples], [sample.texts[0] for sample in samples]
        own = predictor.score(images, texts).diagonal()
        torch.testing.assert_close(own, predictor.score_pairs(images, texts), rtol=1e-4, atol=1e-5)
    refused(lambda: predictor.score_pairs([image], ["a", "b"]))


def words_are_filled_in(predictor: Predictor, samples: Sequence[Sample]) -> None:
    """Words out of the choices, one a place, the same every time and beside longer texts."""
    images, shapes = [samples[0].image] * len(LONGER), [list(SHAPES), list(COLOURS), ["red", "large"]]
    together = predictor.fill_text(images, LONGER, shapes)
    assert together == predictor.fill_text(images, LONGER, shapes), "not the same twice"
    for image, text, allowed, words in zip(images, LONGER, shapes, together, strict=True):
        assert len(words) == 1 and words[0] in allowed, f"{words} for {text!r} out of {allowed}"
        assert predictor.fill_text([image], [text], [allowed]) == [words], f"depends on the batch or padding: {text}"
    free = predictor.fill_text(images[:2], [f"a {MASK} {MASK}", "a red circle"])
    assert [len(words) for words in free] == [2, 0], f"one word a place, not {free}"
    assert all(isinstance(word, str) for word in free[0])
    only = predictor.fill_text(images[:1], [f"a {MASK} {MASK}"], [["red"]])
    assert only == [["red", "red"]], f"{only} out of ['red']"
    refused(lambda: predictor.fill_text(images[:1], ["a", "b"]))


def patches_are_filled_in(predictor: Predictor, samples: Sequence[Sample]) -> None:
    """What is visible stays, what is hidden is not seen: not one pixel of the answer depends on a hidden one."""
    images, texts = [sample.image for sample in samples], [sample.texts[0] for sample in samples]
    draws = torch.Generator().manual_seed(0)
    hidden = torch.rand(len(samples), 3, 3, generator=draws) < 0.3
    hidden[:, 1, 1], hidden[:, 0, 0] = True, False
    nothing = torch.zeros_like(hidden)
    seen = predictor.fill_image(images, texts, nothing)
    plain = pixels(seen)
    assert torch.equal(pixels(predictor.fill_image(seen, texts, nothing)), plain), "a prepared picture is prepared anew"
    answer = pixels(predictor.fill_image(seen, texts, hidden))
    where = hidden_pixels(hidden, plain.shape[1], plain.shape[2])
    assert torch.equal(answer[~where], plain[~where]), "visible cells are not the picture's own"
    assert not torch.equal(answer[where], plain[where]), "hidden cells are the picture's own"
    assert torch.equal(pixels(predictor.fill_image(seen, texts, hidden)), answer), "not the same twice"
    noise = torch.randint(0, 256, plain.shape, generator=draws, dtype=torch.uint8)
    others = torch.where(where[..., None], noise, plain).numpy()
    leaked = pixels(predictor.fill_image([Image(pixels_HWC=one) for one in others], texts, hidden))
    assert torch.equal(leaked, answer), "hidden pixels are seen"
    refused(lambda: predictor.fill_image(images, texts, hidden[1:]))
    refused(lambda: predictor.fill_image(images, texts, hidden.float()))
    refused(lambda: predictor.fill_image(images, texts[1:], hidden))


def refused(call: Callable[[], object]) -> None:
    """Whether something that cannot be answered is refused by a sentence."""
    try:
        call()
    except DiptychError as error:
        assert str(error)
    else:
        raise AssertionError("inputs that do not fit together are not refused")
