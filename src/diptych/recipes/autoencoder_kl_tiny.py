"""An autoencoder with a KL term: 64 pixels to 16 x 16 latents of 8 channels, one CPU core."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from diptych.data.batches.pictures import PictureProcessor
from diptych.models.image_tokenizer import autoencoder_kl
from diptych.recipes._pictures import PictureRun, fine_convolutions
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


@dataclass(frozen=True, kw_only=True)
class AutoencoderKlRun(PictureRun):
    """An autoencoder from scratch; `model.losses.adversarial.weight` switches the discriminator on."""

    model: autoencoder_kl.Config = field(default_factory=autoencoder_kl.Config.tiny)

    def task(self, processor: PictureProcessor) -> autoencoder_kl.AutoencoderKlTask:
        return autoencoder_kl.AutoencoderKlTask(self.model, processor, self.perceptual_network())


def autoencoder_kl_tiny() -> AutoencoderKlRun:
    """Scenes of up to three objects; any pictures with `--data`."""
    model = autoencoder_kl.Config.tiny()
    return AutoencoderKlRun(
        name="autoencoder_kl_tiny",
        model=replace(model, autoencoder=fine_convolutions(latent=8), losses=replace(model.losses, perceptual=0.02)),
        threads=1,
        batch_size=4,
        budget=Budget(samples=18_000),
        optimizer=AdamWConfig(lr=4e-3, weight_decay=0.0, beta2=0.99),
        schedule=WarmupCosine(warmup=50),
        log_every=100,
        evaluate_every=1500,
    )
