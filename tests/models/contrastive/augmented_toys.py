"""Six pairs of scenes and their batches, for models that train on strong views of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.contrastive import clip

SCENES = Scenes("train", config=SceneConfig(objects=2, size=32))
SAMPLES = [SCENES[index] for index in range(6)]
TOKENIZER = Tokenizer.fit([text for sample in SAMPLES for text in sample.texts], 300)
SETTINGS = ImageTextConfig(ImagePreprocessing(32), TextPreprocessing(64))
PLAIN = clip.Config.tiny(TOKENIZER.vocab_size, image_size=32)


def batch_of(processor: ImageTextProcessor, samples: Sequence[Sample] = SAMPLES) -> ImageTextBatch:
    arrays = {
        name: torch.zeros(len(samples), *field.shape, dtype=torch.uint8) for name, field in processor.layout().items()
    }
    items = [
        processor.prepare(sample, Draw(0, 0, sample.key), {name: array[i].numpy() for name, array in arrays.items()})
        for i, sample in enumerate(samples)
    ]
    return processor.collate(tuple(sample.key for sample in samples), arrays, items)


def gradients(task: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
