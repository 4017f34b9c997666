"""Latent diffusion on scenes of one object: everything it stands on is trained first, in minutes of one CPU core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.batches.pictures import PictureProcessor
from diptych.models.generative import stable_diffusion
from diptych.models.image_tokenizer import autoencoder_kl
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._generator import CONTRAST, GeneratorRun, beside
from diptych.recipes._image_tokens import part_of
from diptych.recipes._progress_pictures import there_and_back
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage, Train

_LATENTS = "autoencoder"


@dataclass(frozen=True, kw_only=True)
class StableDiffusionRun(GeneratorRun):
    """An autoencoder on the pictures, a text tower by contrast, then the U-Net between both, which no longer change.

    Attributes:
        autoencoder, tower: how these are trained.
        losses: what the autoencoder learns from; its sizes are the model's.
    """

    model: stable_diffusion.Config = field(default_factory=stable_diffusion.Config.tiny)
    losses: autoencoder_kl.Config = field(default_factory=autoencoder_kl.Config.tiny)
    autoencoder: EarlierStage = field(default_factory=lambda: EarlierStage(2000, 8, 2e-3))
    tower: EarlierStage = field(default_factory=lambda: EarlierStage(400, 64, 1e-3, weight_decay=0.1, beta2=0.98))

    @property
    def _padded(self) -> bool:
        return self.model.text.padding == "constant"

    def stages(self) -> Sequence[Stage]:
        train = Train(
            "train",
            source=lambda context: self.training_data(),
            task=self._task,
            evaluate=self.evaluator,
            show=self.shown,
        )
        text = self.contrast(beside(self.model.text, self.image.size), self.tower, self._padded)
        return (self.tokenizer_stage(), self._latents(), text, train)

    def _latents(self) -> Train:
        sizes = replace(self.losses, autoencoder=self.model.autoencoder, latent=self.model.latent)
        return Train(
            _LATENTS,
            source=lambda context: self.training_data(),
            task=lambda context: autoencoder_kl.AutoencoderKlTask(sizes, PictureProcessor(self.image)),
            show=lambda context: there_and_back(self.selection_data()),
            settings=self.autoencoder.applied_to(self),
        )

    def _task(self, context: Context) -> stable_diffusion.StableDiffusionTask:
        processor = self.processor(context, self._padded)
        return stable_diffusion.StableDiffusionTask(
            self.model.with_vocabulary(processor.tokenizer.vocab_size),
            processor,
            part_of(context.trained(CONTRAST), "model.text."),
            part_of(context.trained(_LATENTS), "model."),
        )


def stable_diffusion_tiny() -> StableDiffusionRun:
    """Scenes of 32 pixels as 8 x 8 latents."""
    return StableDiffusionRun(
        name="stable_diffusion_tiny",
        data="scenes?size=32&objects=1&words=0&zoom=2&patterns=0&noise=0",
        image=ImagePreprocessing(32, mean=autoencoder_kl.MEAN, std=autoencoder_kl.STD, views=None),
        vocab_size=512,
        threads=1,
        batch_size=16,
        ema_decay=0.995,
        budget=Budget(steps=3000),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.01),
        schedule=WarmupCosine(warmup=100),
        log_every=50,
        evaluate_every=1000,
    )
