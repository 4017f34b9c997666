"""What a predictor says of some samples by every verb it has that answers in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from likelihood_checks import likelihood_outputs
from locate_checks import located
from torch import Tensor
from verb_checks import masked_outputs

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.sample import Sample
from diptych.core.visual import Image


def outputs(predictor: Predictor, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """What every verb it has says of the samples."""
    images = [sample.image for sample in samples]
    texts = scorable_texts(predictor, [sample.texts[0] for sample in samples])
    found: dict[str, Tensor] = {}
    if Verb.ENCODE_IMAGE in predictor.verbs:
        found["encode_image"] = predictor.encode_image(images)
    if Verb.ENCODE_TEXT in predictor.verbs:
        found["encode_text"] = predictor.encode_text(texts)
    if Verb.SCORE in predictor.verbs:
        found["score"] = predictor.score(images, texts)
    if Verb.LOCATE in predictor.verbs:
        found["locate"] = located(predictor, samples)
    found |= masked_outputs(predictor, samples) | likelihood_outputs(predictor, samples)
    return {**found, **tokenizer_outputs(predictor, images)}


def tokenizer_outputs(predictor: Predictor, images: Sequence[Image]) -> dict[str, Tensor]:
    """What an image tokenizer says of the pictures: codes, and reconstructions as pixels in [0, 1]."""
    found: dict[str, Tensor] = {}
    if Verb.TOKENIZE_IMAGE in predictor.verbs:
        found["tokenize_image"] = predictor.tokenize_image(images)
    if Verb.RECONSTRUCT in predictor.verbs:
        pictures = predictor.reconstruct(images)
        found["reconstruct"] = torch.stack([torch.tensor(one.pixels_HWC) for one in pictures]) / 255
    return found


def scorable_texts(predictor: Predictor, texts: list[str]) -> list[str]:
    """A classifier scores its own class names only; everyone else takes any text."""
    return list(predictor.classes) if scores_classes(predictor) else texts


def scores_classes(predictor: Predictor) -> bool:
    """Whether its texts are the names of its classes, the same for every picture."""
    return Verb.ENCODE_TEXT not in predictor.verbs and bool(getattr(predictor, "classes", None))
