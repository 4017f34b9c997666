"""CLIP from scratch on a few thousand photographs with captions: what that little data can teach, in 20 minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.pixels.views import Views
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive import clip
from diptych.recipes._pairs import report_on
from diptych.recipes.clip_tiny import ClipRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Stage


@dataclass(frozen=True, kw_only=True)
class PhotoRun(ClipRun):
    """CLIP from scratch, with the val split read once at the end."""

    def stages(self) -> Sequence[Stage]:
        return (*super().stages(), report_on(self.data, "val"))


def flickr8k_scratch() -> PhotoRun:
    """Small pictures and towers: with little data, seeing each photograph often matters more than seeing it well."""
    vision = VisionConfig(112, 16, width=192, depth=4, heads=6, hidden=768, pre_norm=True, patch_bias=False, eps=1e-5)
    text = TextConfig(4096, context=40, width=192, depth=3, heads=6, hidden=768)
    return PhotoRun(
        name="flickr8k_scratch",
        data="",
        image=ImagePreprocessing(112, views=Views(crop_scale=(0.5, 1.0), flip=0.5)),
        context=40,
        vocab_size=4096,
        batch_size=256,
        precision="auto",
        model=clip.Config(vision, text, width=192),
        budget=Budget(samples=220_000),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.2),
        schedule=WarmupCosine(warmup=100),
        evaluate_every=150,
    )
