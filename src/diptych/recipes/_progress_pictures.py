"""Pictures that recipes keep during training: the same few held-out samples at every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diptych.capabilities.generator import OWN_WAY
from diptych.capabilities.predictor import Predictor
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.sampling import ImageSampling
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.pixels.decode import decode
from diptych.data.pixels.thumbnail import png
from diptych.training.stages import Show

_SHOWN = 4
"""Samples."""


def there_and_back(source: Source) -> Show:
    """Pictures beside what comes back of them; of a model with `reconstruct`."""

    def show(model: Predictor) -> list[dict[str, Any]]:
        samples = _readable(source)
        images = [sample.image for sample in samples]
        pairs = zip(samples, model.as_seen(images), model.reconstruct(images), strict=True)
        return [_row(sample, "", seen, made) for sample, seen, made in pairs]

    return show


def made_of_captions(source: Source, sampling: ImageSampling = OWN_WAY) -> Show:
    """Pictures made of captions, beside those that the captions are of; of a model with `generate_image`.

    The seeds are the same every time, so what changes is the model.
    """

    def show(model: Predictor) -> list[dict[str, Any]]:
        samples = [sample for sample in _readable(source) if sample.texts]
        made = model.generate_image([sample.texts[0] for sample in samples], list(range(len(samples))), sampling)
        return [_row(one, one.texts[0], one.image, picture) for one, picture in zip(samples, made, strict=True)]

    return show


def _readable(source: Source) -> Sequence[Sample]:
    """The first samples whose pictures can be decoded."""
    found: list[Sample] = []
    for index in range(len(source)):
        try:
            sample = source[index]
            decode(sample.image, sample.key)
        except BadSample:
            continue
        found.append(sample)
        if len(found) == _SHOWN:
            break
    return found


def _row(sample: Sample, caption: str, true: Image, made: Image) -> dict[str, Any]:
    images = [{"title": caption or "true", "png": png(true)}, {"title": "made", "png": png(made)}]
    return {"key": sample.key, "caption": caption, "images": images}
