"""What verbs that make texts, pictures and documents are held to, on a predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from verb_checks import refused

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.core.visual import Image

DRAWN = TextSampling(max_tokens=8, temperature=1.0)
SEEDS = (11, 12, 13)
MANY = tuple(range(20, 28))


def drawn_pictures(predictor: Predictor, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Two pictures that it makes, as pixels in [0, 1]: what must be the same after saving and loading."""
    if Verb.GENERATE_IMAGE not in predictor.verbs:
        return {}
    made = predictor.generate_image([sample.texts[0] for sample in samples[:2]], SEEDS[:2])
    return {"generate_image": torch.from_numpy(np.stack([pixels(one) for one in made])).float() / 255}


def texts_are_generated(predictor: Predictor, samples: Sequence[Sample]) -> None:
    """The same for a prompt and a seed whatever the batch; other seeds draw other texts; no more tokens than asked."""
    image = samples[0].image
    prompts = [(image,), (image, "a small"), (samples[1].image,)]
    for sampling in (TextSampling(max_tokens=8), DRAWN):
        together = predictor.generate_text(prompts, sampling, SEEDS)
        assert len(together) == 3 and all(isinstance(text, str) for text in together)
        for prompt, seed, text in zip(prompts, SEEDS, together, strict=True):
            assert predictor.generate_text([prompt], sampling, [seed]) == [text], "depends on the batch or padding"
    assert predictor.generate_text(prompts, DRAWN, 3) == predictor.generate_text(prompts, DRAWN, 3), (
        "not the same twice"
    )
    varied = predictor.generate_text([prompts[0]] * len(MANY), DRAWN, MANY)
    assert len(set(varied)) > 1, "seeds are not honoured"
    short = predictor.generate_text([prompts[0]] * len(MANY), TextSampling(max_tokens=1, temperature=1.0), MANY)
    assert all(len(text.split()) <= 1 for text in short), "more tokens than asked"
    wrong_seeds(lambda: predictor.generate_text(prompts, DRAWN, [1]))


def pictures_are_generated(predictor: Predictor, samples: Sequence[Sample], captions: Sequence[str]) -> None:
    """The same for a text and a seed whatever the batch; another seed makes another picture."""
    texts = list(captions)
    together = predictor.generate_image(texts, SEEDS)
    assert len(together) == len(texts) and all(isinstance(one, Image) for one in together)
    for text, seed, made in zip(texts, SEEDS, together, strict=True):
        (alone,) = predictor.generate_image([text], [seed])
        same_picture(alone, made, "depends on the batch or padding")
    (another,) = predictor.generate_image(texts[:1], [SEEDS[0] + 1])
    assert not np.array_equal(pixels(another), pixels(together[0])), "seeds are not honoured"
    first, again = (predictor.generate_image(texts[:2], 5) for _ in range(2))
    assert all(np.array_equal(pixels(one), pixels(two)) for one, two in zip(first, again, strict=True)), "not the same"
    wrong_seeds(lambda: predictor.generate_image(texts, [1]))
    refused(lambda: predictor.generate_image([" "], [1]))


def documents_are_continued(predictor: Predictor, samples: Sequence[Sample]) -> None:
    """Texts and pictures; the same for one seed, others for other seeds; no more words than tokens asked for."""
    parts = ["a picture", samples[0].image]
    found = predictor.continue_document(parts, DRAWN, 1)
    assert all(isinstance(part, str | Image) for part in found)
    assert written(found) == written(predictor.continue_document(parts, DRAWN, 1)), "not the same twice"
    others = {written(predictor.continue_document(parts, DRAWN, seed)) for seed in MANY}
    assert len(others) > 1, "seeds are not honoured"
    short = predictor.continue_document(parts, TextSampling(max_tokens=1, temperature=1.0), 1)
    assert sum(len(part.split()) for part in short if isinstance(part, str)) <= 1, "more tokens than asked"


def written(parts: Sequence[str | Image]) -> tuple[str | bytes, ...]:
    """A document that can be compared."""
    return tuple(part if isinstance(part, str) else pixels(part).tobytes() for part in parts)


def pixels(image: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What a made picture is of."""
    assert image.pixels_HWC is not None, "a picture without pixels"
    assert image.pixels_HWC.dtype == np.uint8 and image.pixels_HWC.shape[2] == 3, "not [H, W, 3] uint8"
    return image.pixels_HWC


def same_picture(one: Image, two: Image, complaint: str) -> None:
    """Whether two pictures are the same but for the rounding of pixels."""
    first, second = pixels(one).astype(int), pixels(two).astype(int)
    assert first.shape == second.shape and np.abs(first - second).max() <= 1, complaint


def wrong_seeds(call: Callable[[], object]) -> None:
    """Whether too few seeds are refused as such."""
    try:
        call()
    except ConfigError as error:
        assert "seed" in str(error)
    else:
        raise AssertionError("too few seeds are not refused")
