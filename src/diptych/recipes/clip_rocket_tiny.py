"""CLIP-rocket on scenes of several objects, in about four minutes on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from diptych.data.batches.augmented_pairs import Augmentation, AugmentedProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig
from diptych.data.pixels.views import Views
from diptych.data.words.text_augment import TextAugmentation
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.contrastive import clip_rocket
from diptych.models.contrastive._options import PairOptions
from diptych.recipes._image_text import ImageTextRun
from diptych.recipes.slip_tiny import SCENE_VIEWS
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


@dataclass(frozen=True, kw_only=True)
class ClipRocketRun(ImageTextRun):
    """CLIP-rocket from scratch.

    Attributes:
        augmentation: the strong pairs; there are as many as the model takes.
    """

    model: clip_rocket.Config = field(default_factory=clip_rocket.Config.tiny)
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(text=TextAugmentation()))

    def task(self, settings: ImageTextConfig, tokenizer: Tokenizer, options: PairOptions) -> clip_rocket.ClipRocketTask:
        model = replace(self.model, text=replace(self.model.text, vocab_size=tokenizer.vocab_size))
        augmentation = replace(self.augmentation, views=model.views)
        return clip_rocket.ClipRocketTask(model, AugmentedProcessor(settings, tokenizer, augmentation), options)


def clip_rocket_tiny() -> ClipRocketRun:
    """The same data, budget and batches as clip_tiny; pictures vary as in slip_tiny."""
    return ClipRocketRun(
        name="clip_rocket_tiny",
        data="scenes",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        augmentation=Augmentation(2, SCENE_VIEWS, TextAugmentation()),
        vocab_size=512,
        batch_size=64,
        budget=Budget(steps=400),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=200,
    )
