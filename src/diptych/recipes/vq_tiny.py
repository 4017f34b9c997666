"""An image tokenizer of 256 codes for pictures of 64 pixels, in about seven minutes of one CPU core."""

from __future__ import annotations

from dataclasses import dataclass, field

from diptych.data.batches.pictures import PictureProcessor
from diptych.models.image_tokenizer import vq
from diptych.recipes._pictures import PictureRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


@dataclass(frozen=True, kw_only=True)
class VqRun(PictureRun):
    """An image tokenizer from scratch."""

    model: vq.Config = field(default_factory=vq.Config.tiny)

    def task(self, processor: PictureProcessor) -> vq.VqTask:
        return vq.VqTask(self.model, processor)


def vq_tiny() -> VqRun:
    """Scenes of up to three objects; any pictures with `--data`."""
    return VqRun(
        name="vq_tiny",
        threads=1,  # a batch this small has no work for two, and small batches learn most from the same pictures
        batch_size=4,
        budget=Budget(samples=28_000),
        optimizer=AdamWConfig(lr=2e-3, weight_decay=0.0, beta2=0.99),
        schedule=WarmupCosine(warmup=50),
        log_every=100,
        evaluate_every=1750,
    )
