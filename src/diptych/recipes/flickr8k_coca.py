"""CoCa on a few thousand photographs with captions, from a pretrained backbone, in under 25 minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.pixels.views import Views
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.generative import coca
from diptych.recipes._backbone import OnBackbone
from diptych.recipes._pairs import READ_OUT, report_on
from diptych.recipes.coca_tiny import CocaRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage, fitted_tokenizer

_CAPTIONING = ("cider", "cider_nearest_picture", "cider_consensus_of_30", "cider_constant_caption", "bleu_4")


@dataclass(frozen=True, kw_only=True)
class PhotoCocaRun(OnBackbone, CocaRun):
    """CoCa whose patches are the cells of a frozen backbone; reads the val split once, at the end.

    Attributes:
        beams: of the captions in the report.
    """

    beams: int = 3

    def stages(self) -> Sequence[Stage]:
        self.backbone()  # fails before anything is trained
        captioning = {"neighbours": self.data, "beams": self.beams}
        report = report_on(self.data, "val", {**READ_OUT, "captioning": _CAPTIONING}, {"captioning": captioning})
        return (*super().stages(), report)

    def _task(self, context: Context) -> coca.CocaTask:
        backbone, tokenizer = self.backbone(), fitted_tokenizer(context)
        settings = ImageTextConfig(backbone.pictures(self.image), TextPreprocessing(self.context))
        sizes = self.model.with_vocabulary(tokenizer.vocab_size)
        sizes = replace(sizes, vision=backbone.encoder(sizes.vision))
        task = coca.CocaTask(sizes, ImageTextProcessor(settings, tokenizer), self.weights, backbone.map)
        if self.compile_tower:
            backbone.speed_up(task.model.vision, context)
        return task


def flickr8k_coca() -> PhotoCocaRun:
    """Pictures of 160 pixels are 25 cells, pooled by 25 queries."""
    vision = VisionConfig(160, 32, width=192, depth=2, heads=3, hidden=768, eps=1e-5)
    text = coca.DecoderConfig(4096, context=40, width=192, lower=2, upper=2, heads=3, hidden=768)
    return PhotoCocaRun(
        name="flickr8k_coca",
        data="",
        image=ImagePreprocessing(160, views=Views(crop_scale=(0.6, 1.0), flip=0.5)),
        context=40,
        vocab_size=4096,
        model=coca.Config(vision, text, width=192, queries=25, pool_heads=3),
        batch_size=128,
        precision="auto",
        budget=Budget(samples=90_000),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.2),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=235,
    )
