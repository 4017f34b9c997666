"""Pictures that a model makes of prompts, each with a seed of its own: of the benchmark's seed and the key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import TextTooLong
from diptych.core.processor import BadSample
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import hash_to_int
from diptych.core.visual import Image
from diptych.evaluation.benchmark import Records
from diptych.evaluation.encoding import batched
from diptych.evaluation.progress import shown

TOGETHER = 32
"""The most pictures in one call."""


class Prompted(Protocol):
    """What a picture is made of."""

    @property
    def key(self) -> str:
        """Of its record."""
        ...

    @property
    def text(self) -> str:
        """What the model is told."""
        ...


P = TypeVar("P", bound=Prompted)


def painted(
    model: Predictor, prompts: Sequence[P], sampling: ImageSampling, records: Records
) -> Iterator[tuple[P, Image]]:
    """Each prompt with its picture, in order; a prompt that the model has no room for is recorded and left out.

    Args:
        model: has `generate_image`.
    """
    with_bar = shown(list(batched(prompts, TOGETHER)), "pictures", -(-len(prompts) // TOGETHER), records)
    for some in with_bar:
        yield from _together(model, some, sampling, records)


def _together(
    model: Predictor, prompts: Sequence[P], sampling: ImageSampling, records: Records
) -> list[tuple[P, Image]]:
    """A whole batch; one by one only where a prompt in it is too long."""
    seeds = [hash_to_int("picture", records.seed, prompt.key) for prompt in prompts]
    try:
        made = model.generate_image([prompt.text for prompt in prompts], seeds, sampling)
    except TextTooLong as error:
        if len(prompts) == 1:
            records.fail(BadSample(prompts[0].key, "prompt too long", str(error)))
            return []
        return [one for prompt in prompts for one in _together(model, [prompt], sampling, records)]
    return list(zip(prompts, made, strict=True))
