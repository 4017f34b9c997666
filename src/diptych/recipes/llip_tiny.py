"""Llip on scenes of several objects, in about a minute on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field

from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor
from diptych.data.pixels.views import Views
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.contrastive import llip
from diptych.models.contrastive._options import PairOptions
from diptych.recipes._image_text import ImageTextRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


@dataclass(frozen=True, kw_only=True)
class LlipRun(ImageTextRun):
    """Llip from scratch."""

    model: llip.Config = field(default_factory=llip.Config.tiny)

    def task(self, settings: ImageTextConfig, tokenizer: Tokenizer, options: PairOptions) -> llip.LlipTask:
        sizes = self.model.with_vocabulary(tokenizer.vocab_size)
        return llip.LlipTask(sizes, ImageTextProcessor(settings, tokenizer), options)


def llip_tiny() -> LlipRun:
    """The same data, budget and batches as siglip_tiny."""
    return LlipRun(
        name="llip_tiny",
        data="scenes",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        vocab_size=512,
        batch_size=64,
        budget=Budget(steps=400),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=200,
    )
