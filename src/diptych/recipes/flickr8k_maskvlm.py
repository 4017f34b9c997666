"""MaskVLM on a few thousand photographs with captions, from a pretrained backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.pixels.views import Views
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.masked import maskvlm
from diptych.recipes._alignment import Alignment
from diptych.recipes._backbone import OnBackbone
from diptych.recipes._pairs import report_on
from diptych.recipes.maskvlm_tiny import MaskVlmRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage, fitted_tokenizer


@dataclass(frozen=True, kw_only=True)
class PhotoRun(OnBackbone, MaskVlmRun):
    """MaskVLM whose patches are the cells of a frozen backbone; reads the val split once, at the end."""

    def stages(self) -> Sequence[Stage]:
        stride = self.backbone().stride
        if self.options.image_block % stride:
            raise ConfigError(
                f"options.image_block {self.options.image_block} must be a multiple of the backbone's stride, {stride}"
            )
        return (*super().stages(), report_on(self.data, "val"))

    def _task(self, context: Context, options: maskvlm.MaskVlmOptions) -> maskvlm.MaskVlmTask:
        backbone, tokenizer = self.backbone(), fitted_tokenizer(context)
        settings = ImageTextConfig(backbone.pictures(self.image), TextPreprocessing(self.context))
        sizes = self.model.with_vocabulary(tokenizer.vocab_size)
        sizes = replace(sizes, vision=backbone.encoder(sizes.vision))
        task = maskvlm.MaskVlmTask(sizes, ImageTextProcessor(settings, tokenizer), options, backbone.map)
        if self.compile_tower:
            backbone.speed_up(task.model.vision, context)
        return task


def flickr8k_maskvlm() -> PhotoRun:
    """Pictures of 160 pixels are 25 cells; two of three samples are seen by the contrastive loss alone, first."""
    vision = VisionConfig(160, 32, width=192, depth=2, heads=3, hidden=768, eps=1e-5)
    text = TextConfig(4096, context=40, width=192, depth=2, heads=3, hidden=768, causal=False)
    return PhotoRun(
        name="flickr8k_maskvlm",
        data="",
        image=ImagePreprocessing(160, views=Views(crop_scale=(0.6, 1.0), flip=0.5)),
        context=40,
        vocab_size=4096,
        model=maskvlm.Config(vision, text, width=192, cross_depth=1, decoder_depth=1),
        options=maskvlm.MaskVlmOptions(image_block=32),
        alignment=Alignment(samples=32_000, lr_scale=2.0),
        batch_size=128,
        precision="auto",
        budget=Budget(samples=16_000),
        optimizer=AdamWConfig(lr=5e-4, weight_decay=0.2),
        schedule=WarmupCosine(warmup=25),
    )
