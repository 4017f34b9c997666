"""An image tokenizer of transformers with codes by angle: 64 pixels, 16 x 16 codes, one CPU core."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from diptych.data.batches.pictures import PictureProcessor
from diptych.layers.vit_autoencoder import VitConfig
from diptych.models.image_tokenizer import vit_vqgan
from diptych.recipes._pictures import PictureRun
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget


@dataclass(frozen=True, kw_only=True)
class VitVqganRun(PictureRun):
    """An image tokenizer from scratch; `model.losses.adversarial.weight` switches the discriminator on."""

    model: vit_vqgan.Config = field(default_factory=vit_vqgan.Config.tiny)

    def task(self, processor: PictureProcessor) -> vit_vqgan.VitVqganTask:
        return vit_vqgan.VitVqganTask(self.model, processor, self.perceptual_network())


def vit_vqgan_tiny() -> VitVqganRun:
    """Scenes of up to three objects; any pictures with `--data`."""
    model = vit_vqgan.Config.tiny()
    return VitVqganRun(
        name="vit_vqgan_tiny",
        model=replace(
            model,
            vit=VitConfig(64, 4, width=64, depth=1, heads=2, hidden=256),
            losses=replace(model.losses, perceptual=0.02),
            logit_laplace=0.01,
        ),
        threads=1,
        batch_size=4,
        budget=Budget(samples=20_000),
        clip_norm=0.1,  # without it a transformer bursts at this learning rate
        optimizer=AdamWConfig(lr=4e-3, weight_decay=1e-4, beta2=0.99),
        schedule=WarmupCosine(warmup=200),
        log_every=100,
        evaluate_every=1250,
    )
