"""An image tokenizer that is judged by looks and by a discriminator too: 64 pixels, 16 x 16 codes, a CPU core."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from diptych.data.batches.pictures import PictureProcessor
from diptych.models.image_tokenizer import vqgan
from diptych.recipes._pictures import PictureRun, fine_convolutions
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


@dataclass(frozen=True, kw_only=True)
class VqganRun(PictureRun):
    """An image tokenizer from scratch; the discriminator joins after `model.losses.adversarial.start` steps."""

    model: vqgan.Config = field(default_factory=vqgan.Config.tiny)

    def task(self, processor: PictureProcessor) -> vqgan.VqganTask:
        return vqgan.VqganTask(self.model, processor, self.perceptual_network())


def vqgan_tiny() -> VqganRun:
    """Scenes of up to three objects; any pictures with `--data`."""
    model = vqgan.Config.tiny()
    game = replace(model.losses.adversarial, start=4500)
    return VqganRun(
        name="vqgan_tiny",
        model=replace(
            model,
            autoencoder=fine_convolutions(latent=32),
            losses=replace(model.losses, perceptual=0.02, adversarial=game),
        ),
        threads=1,
        batch_size=4,
        budget=Budget(samples=24_000),
        optimizer=AdamWConfig(lr=4e-3, weight_decay=0.0, beta2=0.99),
        schedule=WarmupCosine(warmup=50),
        log_every=100,
        evaluate_every=1500,
    )
