"""A model from outside: the mean colours of a picture against a bag of words.

Nothing in diptych knows this file; `outside_test.py` copies it into a temporary package and does with it what can be
done with a shipped model.

B batch, C channels, D embedding width, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.capabilities.predictor import Predictor
from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.losses import Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.task import Features, GlobalTask, LocalOutput
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.words.tokenizer import Tokenizer
from diptych.objectives.contrastive import info_nce

VERBS = ("encode_image", "encode_text")


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes."""

    vocab_size: int = 300
    width: int = 16

    @classmethod
    def tiny(cls, vocab_size: int = 300) -> Config:
        return cls(vocab_size)


class MeanColour(nn.Module):
    """Two towers of one layer each."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(3 * 16, 64), nn.GELU(), nn.Linear(64, config.width))
        self.text = nn.EmbeddingBag(config.vocab_size, config.width, mode="sum")

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        colours_BCHW = pixels_BCHW.to(self.image[0].weight.dtype) / 255
        chroma_BCHW = colours_BCHW - colours_BCHW.mean(1, keepdim=True)  # backgrounds are grey: objects are left
        cells_BD = 20 * F.adaptive_avg_pool2d(chroma_BCHW, 4).flatten(1)
        return F.normalize(self.image(cells_BD), dim=-1)

    def encode_text(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        inside_BT = torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]
        return F.normalize(self.text(tokens_BT, per_sample_weights=inside_BT.to(self.text.weight.dtype)), dim=-1)


class MeanColourTask(GlobalTask[ImageTextBatch]):
    """InfoNCE at a fixed scale."""

    def __init__(self, config: Config, processor: ImageTextProcessor) -> None:
        super().__init__()
        self.config, self.processor, self.model = config, processor, MeanColour(config)

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        image_BD = self.model.encode_image(batch.pixels_BCHW)
        text_BD = self.model.encode_text(batch.tokens_BT, batch.lengths_B)
        return LocalOutput(Features(image=image_BD, text=text_BD))

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        rows = len(features["image"])
        loss = info_nce(features["image"], features["text"], torch.tensor(10.0, dtype=features["image"].dtype))
        return {"contrastive": Part(loss * rows, rows, scope=Scope.GLOBAL_BATCH)}

    def counts(self, batch: ImageTextBatch, phase: str = "main") -> dict[str, float]:
        return {}

    def predictor(self) -> MeanColourPredictor:
        return MeanColourPredictor(self.config, self.processor, self.model)


class MeanColourPredictor(Predictor):
    """Encodes with both towers."""

    VERBS = VERBS
    name = "mean_colour"

    def __init__(self, config: Config, processor: ImageTextProcessor, module: MeanColour) -> None:
        self.config, self.processor, self.module = config, processor, module

    @torch.inference_mode()
    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        return self.module.encode_image(self.processor.pixels(visuals))

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self.module.encode_text(*self.processor.tokens(texts))

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        processor = ImageTextProcessor(
            from_plain(ImageTextConfig, description["processor"]), Tokenizer.read(folder / "tokenizer.json")
        )
        return cls(config, processor, MeanColour(config))


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, MeanColourTask]:
    """The one task, at its smallest."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    processor = ImageTextProcessor(ImageTextConfig(ImagePreprocessing(16), TextPreprocessing(32)), tokenizer)
    return {"contrastive": MeanColourTask(Config.tiny(tokenizer.vocab_size), processor)}
