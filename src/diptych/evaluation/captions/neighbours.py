"""Captions of training pictures that look alike to a model, as captions of others."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.capabilities.predictor import ImageEncoder
from diptych.core.errors import DataError
from diptych.core.sample import Sample
from diptych.data.open import open_source
from diptych.evaluation.benchmark import Records
from diptych.evaluation.captions.baselines import NEIGHBOURS, consensus_captions, nearest_captions
from diptych.evaluation.encoding import encode_images


def neighbour_captions(model: ImageEncoder, train: str, samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Two captions for each picture: of the nearest training picture, and the consensus of the nearest 30.

    Args:
        train: a reference to the training pictures; of what it names, the "train" split.
        samples: pictures that the model can read.

    Raises:
        DataError: no such data, none of them with a caption, or pictures that are in both.
    """
    aside = Records(None, {})
    training = [one for one in aside.samples(open_source(train, "train")) if aside.has_caption(one)]
    wanted = {sample.key for sample in samples}
    if both := [sample.key for sample in training if sample.key in wanted]:
        raise DataError(f"{len(both)} of the pictures to caption are also in the training data {train} ('{both[0]}')")
    other_MD, training = encode_images(model, training, aside)
    image_ND, _ = encode_images(model, samples, aside)
    said = [[text for text in sample.texts if text.strip()] for sample in training]
    return {
        "nearest_picture": nearest_captions(image_ND, other_MD, said),
        f"consensus_of_{NEIGHBOURS}": consensus_captions(image_ND, other_MD, said),
    }
