"""FLAVA from scratch on a few thousand photographs with captions, in 25 minutes on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diptych.data.image_text import ImagePreprocessing
from diptych.data.mixed_pairs import Masks
from diptych.data.views import Views
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.image_tokenizer import vq
from diptych.models.masked import flava
from diptych.models.masked._flava_codes import VqCodes
from diptych.models.masked._flava_encoders import FusionConfig
from diptych.recipes._flava import CodebookStage, FirstStage, FlavaRun
from diptych.recipes._pairs import report_on
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Stage


@dataclass(frozen=True, kw_only=True)
class PhotoFlavaRun(FlavaRun):
    """FLAVA from scratch, with the val split read once at the end."""

    def stages(self) -> Sequence[Stage]:
        return (*super().stages(), report_on(self.data, "val"))


def flickr8k_flava() -> PhotoFlavaRun:
    """The contrastive term alone first, then all six: with little data, seeing each photograph often matters most.

    Encoders are as large as those of flickr8k_scratch. The codebook sees the photographs at half their size, 8 pixels a
    code for 16 of the model's.
    """
    vision = VisionConfig(112, 16, width=192, depth=4, heads=6, hidden=768)
    text = TextConfig(4096, 40, width=192, depth=3, heads=6, hidden=768, causal=False)
    codes = VqCodes(vq.Config.tiny(256), image_size=56)
    return PhotoFlavaRun(
        name="flickr8k_flava",
        data="",
        image=ImagePreprocessing(112, views=Views(crop_scale=(0.5, 1.0), flip=0.5)),
        context=40,
        vocab_size=4096,
        masks=Masks(mismatched=0.2, alone=(0.05, 0.05)),
        codebook=CodebookStage(steps=600, batch_size=32),
        first=FirstStage(samples=190_000, lr_scale=2.0),
        batch_size=128,
        precision="auto",
        model=flava.Config(vision, text, FusionConfig(192, 2, 6, 768, eps=1e-6), 192, codes),
        budget=Budget(samples=50_000),
        optimizer=AdamWConfig(lr=5e-4, weight_decay=0.2),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=130,
    )
