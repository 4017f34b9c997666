"""CLIP on scenes of several objects, in about a minute on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field

from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor
from diptych.data.pixels.views import Views
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.contrastive import clip
from diptych.models.contrastive._options import PairOptions
from diptych.recipes._image_text import ImageTextRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


@dataclass(frozen=True, kw_only=True)
class ClipRun(ImageTextRun):
    """CLIP from scratch."""

    model: clip.Config = field(default_factory=clip.Config.tiny)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size == 1 and not self.negatives:
            raise ConfigError(
                "CLIP tells the texts of a batch apart, and a batch of one has nothing to tell: its loss is always 0. "
                "Raise batch_size to 2 or more"
            )

    def task(self, settings: ImageTextConfig, tokenizer: Tokenizer, options: PairOptions) -> clip.ClipTask:
        sizes = self.model.with_vocabulary(tokenizer.vocab_size)
        return clip.ClipTask(sizes, ImageTextProcessor(settings, tokenizer), options)


def clip_tiny() -> ClipRun:
    """Crops stay close to the whole picture: captions speak of places."""
    return ClipRun(
        name="clip_tiny",
        data="scenes",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        vocab_size=512,
        batch_size=64,
        budget=Budget(steps=400),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=200,
    )
