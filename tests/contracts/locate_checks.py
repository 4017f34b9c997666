"""What models that point are held to, on a predictor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from verb_checks import refused

from diptych.capabilities.predictor import Predictor
from diptych.core.sample import Sample
from diptych.core.visual import Box, Image

PHRASES = ("red circle", "the small blue star to the left of everything else", "it")


def located(predictor: Predictor, samples: Sequence[Sample]) -> Tensor:
    """[N, 4] the box of each sample's first label; -1 where there is none."""
    phrases = [sample.boxes[0].label for sample in samples]
    boxes: list[Box | None] = predictor.locate([sample.image for sample in samples], phrases)
    return torch.tensor([[-1.0] * 4 if box is None else [box.x0, box.y0, box.x1, box.y1] for box in boxes])


def boxes_are_given(predictor: Predictor, samples: Sequence[Sample]) -> None:
    """One box or none for each phrase, inside its picture, the same every time and beside other phrases."""
    images = [samples[0].image, samples[1].image, samples[0].image]
    together: list[Box | None] = predictor.locate(images, PHRASES)
    assert len(together) == len(PHRASES), "one answer a phrase"
    assert together == predictor.locate(images, PHRASES), "not the same twice"
    for image, phrase, box in zip(images, PHRASES, together, strict=True):
        assert predictor.locate([image], [phrase]) == [box], f"depends on the batch or padding: {phrase!r}"
        if box is not None:
            inside(box, image, phrase)
    assert predictor.locate([], []) == [], "nothing was asked"
    refused(lambda: predictor.locate(images[:1], ["a", "b"]))


def inside(box: Box, image: Image, phrase: str) -> None:
    """In order, inside the picture, and labelled by what was asked."""
    assert image.pixels_HWC is not None
    height, width = image.pixels_HWC.shape[:2]
    assert 0 <= box.x0 < box.x1 <= width, f"{box} is not inside {width} pixels"
    assert 0 <= box.y0 < box.y1 <= height, f"{box} is not inside {height} pixels"
    assert box.label == phrase, f"{box.label!r} for {phrase!r}"
