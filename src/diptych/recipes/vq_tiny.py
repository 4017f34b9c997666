"""An image tokenizer of 16 x 16 out of 256 codes for pictures of 64 pixels, in minutes of one CPU core."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from diptych.data.batches.pictures import PictureProcessor
from diptych.models.image_tokenizer import vq
from diptych.recipes._pictures import PictureRun, fine_convolutions
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
        model=replace(vq.Config.tiny(), autoencoder=fine_convolutions(latent=32)),
        threads=1,  # a batch this small has no work for two, and small batches learn most from the same pictures
        batch_size=4,
        budget=Budget(samples=24_000),
        optimizer=AdamWConfig(lr=4e-3, weight_decay=0.0, beta2=0.99),
        schedule=WarmupCosine(warmup=50),
        log_every=100,
        evaluate_every=1500,
    )
