"""MaskVLM from scratch on a few thousand photographs with captions: what that little data can teach, in 25 minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diptych.data.image_text import ImagePreprocessing
from diptych.data.views import Views
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.masked import maskvlm
from diptych.recipes._pairs import report_on
from diptych.recipes.maskvlm_tiny import Alignment, MaskVlmRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Stage


@dataclass(frozen=True, kw_only=True)
class PhotoRun(MaskVlmRun):
    """MaskVLM from scratch, with the val split read once at the end."""

    def stages(self) -> Sequence[Stage]:
        return (*super().stages(), report_on(self.data, "val"))


def flickr8k_maskvlm() -> PhotoRun:
    """Most samples are seen by the contrastive loss alone; the others then need few of their own."""
    vision = VisionConfig(112, 16, width=192, depth=4, heads=6, hidden=768, eps=1e-5)
    text = TextConfig(4096, context=40, width=192, depth=3, heads=6, hidden=768, causal=False)
    return PhotoRun(
        name="flickr8k_maskvlm",
        data="",
        image=ImagePreprocessing(112, views=Views(crop_scale=(0.5, 1.0), flip=0.5)),
        context=40,
        vocab_size=4096,
        model=maskvlm.Config(vision, text, width=192, cross_depth=2, decoder_depth=1),
        options=maskvlm.MaskVlmOptions(image_block=16),
        alignment=Alignment(samples=200_000, batch_size=256, lr_scale=2.0),
        batch_size=128,
        precision="auto",
        budget=Budget(samples=30_000),
        optimizer=AdamWConfig(lr=5e-4, weight_decay=0.2),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=60,
    )
