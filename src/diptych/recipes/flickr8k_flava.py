"""FLAVA on a few thousand photographs with captions, from a pretrained backbone, in under 25 minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.batches.mixed_pairs import Masks
from diptych.data.pixels.views import Views
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.image_tokenizer import vq
from diptych.models.masked import flava
from diptych.models.masked._flava_codes import VqCodes
from diptych.models.masked._flava_encoders import FusionConfig
from diptych.models.masked._flava_terms import Weights
from diptych.recipes._alignment import Alignment
from diptych.recipes._backbone import OnBackbone
from diptych.recipes._flava import CodebookStage, FlavaRun
from diptych.recipes._pairs import report_on
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage


@dataclass(frozen=True, kw_only=True)
class PhotoFlavaRun(OnBackbone, FlavaRun):
    """FLAVA whose patches are the cells of a frozen backbone; reads the val split once, at the end."""

    def stages(self) -> Sequence[Stage]:
        self.backbone()  # fails before anything is trained
        return (*super().stages(), report_on(self.data, "val"))

    def _task(self, context: Context, weights: Weights, masks: Masks) -> flava.FlavaTask:
        backbone = self.backbone()
        sizes = replace(self.model, vision=backbone.encoder(self.model.vision))
        settled = replace(self, model=sizes, image=backbone.pictures(self.image))
        task = settled.task_on(context, weights, masks, backbone.map)
        if self.compile_tower:
            backbone.speed_up(task.model.image, context)
        return task


def flickr8k_flava() -> PhotoFlavaRun:
    """Pictures of 160 pixels are 25 cells; two of three samples are seen by the contrastive term alone, first.

    The codebook sees the photographs at 40 pixels, 8 a code, for 32 of the model's.
    """
    vision = VisionConfig(160, 32, width=192, depth=2, heads=3, hidden=768)
    text = TextConfig(4096, 40, width=192, depth=2, heads=3, hidden=768, causal=False)
    codes = VqCodes(vq.Config.tiny(256), image_size=40)
    return PhotoFlavaRun(
        name="flickr8k_flava",
        data="",
        image=ImagePreprocessing(160, views=Views(crop_scale=(0.6, 1.0), flip=0.5)),
        context=40,
        vocab_size=4096,
        masks=Masks(mismatched=0.2, alone=(0.05, 0.05)),
        codebook=CodebookStage(steps=200, batch_size=32),
        alignment=Alignment(samples=32_000, lr_scale=2.0),
        batch_size=128,
        precision="auto",
        model=flava.Config(vision, text, FusionConfig(192, 2, 3, 768, eps=1e-6), 192, codes),
        budget=Budget(samples=16_000),
        optimizer=AdamWConfig(lr=5e-4, weight_decay=0.2),
        schedule=WarmupCosine(warmup=25),
    )
