"""A MaskVLM of random weights in double precision with a batch of scenes, for its tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from contract import Held
from torch import Tensor

from diptych.core.sample import Sample
from diptych.data.batches.image_text import ImageTextBatch
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.masked.maskvlm import MaskVlmOptions, MaskVlmTask, tiny_tasks

ASKED = MaskVlmOptions(image_block=8)


def scenes(count: int = 6) -> list[Sample]:
    """Scenes with captions of different length."""
    source = Scenes("train", 200, SceneConfig(size=32, objects=2))
    found = [source[index] for index in range(count)]
    texts = ["red", "a small blue circle", "two things", "one two three four five six seven eight", "green", "a b"]
    return [replace(sample, texts=(texts[index % 6],)) for index, sample in enumerate(found)]


def random_task(
    options: MaskVlmOptions = ASKED, samples: Sequence[Sample] | None = None, seed: int = 0, text_free: bool = False
) -> MaskVlmTask:
    """Every parameter moved away from where it begins, in float64."""
    torch.manual_seed(seed)
    made = tiny_tasks(samples or scenes())["masked"]
    task = MaskVlmTask(replace(made.config, text_free=text_free), made.processor, options).double()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return task


def batch_of(task: MaskVlmTask, samples: Sequence[Sample] | None = None) -> ImageTextBatch:
    """All samples as one batch, with pixels in float64 so that they can be differentiated."""
    held = Held(samples or scenes())
    batch: Any = next(iter(evaluation_batches(held, task.processor, len(held), threads=1)))
    assert isinstance(batch, ImageTextBatch)
    pixels: Tensor = task.model.normalise(batch.pixels_BCHW)
    return replace(batch, pixels_BCHW=pixels)


def with_text(batch: ImageTextBatch, row: int, place: int, index: int) -> ImageTextBatch:
    """Another id at one place of one text."""
    tokens_BT = batch.tokens_BT.clone()
    assert tokens_BT[row, place] != index
    tokens_BT[row, place] = index
    return replace(batch, tokens_BT=tokens_BT)


def with_pixels(batch: ImageTextBatch, where_BHW: Tensor, seed: int = 5) -> ImageTextBatch:
    """Other pixels in some places."""
    noise = torch.randn(batch.pixels_BCHW.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return replace(batch, pixels_BCHW=torch.where(where_BHW[:, None], noise, batch.pixels_BCHW))
