"""FLAVA on scenes of one object, at the size of clip_tiny, in minutes."""

from __future__ import annotations

from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.batches.mixed_pairs import Masks
from diptych.data.pixels.views import Views
from diptych.recipes._alignment import Alignment
from diptych.recipes._flava import CodebookStage, FlavaRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


def flava_tiny() -> FlavaRun:
    """Three of ten pairs are taken as pictures or texts alone; crops stay close to the whole picture, as in clip_tiny.

    The codebook sees the pictures for a minute, and then does not change.
    """
    return FlavaRun(
        name="flava_tiny",
        data="scenes?objects=1&words=0",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        vocab_size=512,
        masks=Masks(alone=(0.15, 0.15)),
        codebook=CodebookStage(steps=500),
        alignment=Alignment(samples=24_000),
        batch_size=64,
        budget=Budget(steps=1000),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=100),
        evaluate_every=500,
    )
