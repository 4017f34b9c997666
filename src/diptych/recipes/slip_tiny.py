"""SLIP on scenes of several objects, in about three minutes on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from diptych.data.batches.augmented_pairs import Augmentation, AugmentedProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig
from diptych.data.pixels.views import Views
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.contrastive import slip
from diptych.models.contrastive._options import PairOptions
from diptych.recipes._image_text import ImageTextRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget

SCENE_VIEWS = Views(
    crop_scale=(0.4, 1.0),
    ratio=(0.8, 1.25),
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.02,
    colour=0.8,
    grey=0.1,
    blur=0.3,
    blur_sigma=(0.1, 1.0),
)
"""Strong views of scenes. Photographs stand smaller crops, mirrors and other hues (`augmented_pairs.STRONG`); a scene
is a few objects that captions call by colour and place, which those would take away: a crop of 8 % is most often
background, a mirror turns left into right, and a tenth of the colour circle makes red orange."""


@dataclass(frozen=True, kw_only=True)
class SlipRun(ImageTextRun):
    """SLIP from scratch.

    Attributes:
        augmentation: the strong views.
    """

    model: slip.Config = field(default_factory=slip.Config.tiny)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def task(self, settings: ImageTextConfig, tokenizer: Tokenizer, options: PairOptions) -> slip.SlipTask:
        model = replace(self.model, text=replace(self.model.text, vocab_size=tokenizer.vocab_size))
        augmentation = self.augmentation if model.ssl_scale else replace(self.augmentation, views=0)
        return slip.SlipTask(model, AugmentedProcessor(settings, tokenizer, augmentation), options)


def slip_tiny() -> SlipRun:
    """The same data, budget and batches as clip_tiny."""
    return SlipRun(
        name="slip_tiny",
        data="scenes",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        augmentation=Augmentation(2, SCENE_VIEWS),
        vocab_size=512,
        batch_size=64,
        budget=Budget(steps=400),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=200,
    )
