"""Conversations of captions alone: the user gives one caption of a picture, the assistant another."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.core.sample import Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.data.derived.mapped import Mapped


@dataclass(frozen=True)
class CaptionToCaption(Mapped):
    """The first caption in the place of the picture, and any of the sample's captions as the answer.

    A language model trained on this can say of a description what it would say of a picture: the least that it must
    know before vectors in the place of a picture can use it. Samples without captions only lose their pictures.
    """

    CHANGE = "captions for captions"

    def change(self, sample: Sample) -> Sample:
        sample = replace(sample, visuals=(), boxes=())
        texts = [text for text in sample.texts if text.strip()]
        if not texts:
            return sample
        answer = texts[hash_to_int("retold", sample.key) % len(texts)]
        return replace(sample, turns=(Turn("user", texts[0]), Turn("assistant", answer)))
