"""SigLIP on scenes of several objects, in about a minute on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor
from diptych.data.pixels.views import Views
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.contrastive import siglip
from diptych.models.contrastive._options import PairOptions
from diptych.recipes._image_text import ImageTextRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


@dataclass(frozen=True, kw_only=True)
class SiglipRun(ImageTextRun):
    """SigLIP from scratch."""

    model: siglip.Config = field(default_factory=siglip.Config.tiny)

    def task(self, settings: ImageTextConfig, tokenizer: Tokenizer, options: PairOptions) -> siglip.SiglipTask:
        sizes = self.model.with_vocabulary(tokenizer.vocab_size)
        text = replace(settings.text, pad_to_max=sizes.text.padding == "constant")
        return siglip.SiglipTask(sizes, ImageTextProcessor(replace(settings, text=text), tokenizer), options)


def siglip_tiny() -> SiglipRun:
    """The same data, budget and batches as clip_tiny."""
    return SiglipRun(
        name="siglip_tiny",
        data="scenes",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        vocab_size=512,
        batch_size=64,
        budget=Budget(steps=400),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=200,
    )
