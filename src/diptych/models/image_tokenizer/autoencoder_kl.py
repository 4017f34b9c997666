"""Autoencoder with a KL term: pictures as small grids of continuous latents, and back.

Rombach et al. 2021, "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752, sections 3.1 and
G; the first stage of Stable Diffusion. The encoder gives mean and log variance of every latent value, a training pass
draws from them, and a very small KL term keeps the latents near a standard Gaussian. Diffusion works on latents times
`scale`, which makes their standard deviation one (0.18215 in Stable Diffusion). For others, on `AutoencoderKl`:
`latents(pixels)` and `pixels(latents)`, both in that scale.

Departures: every error is a mean over pixels and channels, where the released code adds them up, so the KL term is
divided by the number of pixel values of a picture to keep its weight of 1e-6; there is no learned variance of the
reconstruction; perceptual network and discriminator as in vqgan.py.

B batch, C latent channels, H height, W width, h rows and w columns of latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.load import folder_of
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import Part
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.patch_discriminator import DiscriminatorConfig
from diptych.layers.perceptual_network import PerceptualNetwork
from diptych.models._weight_tables import load_into
from diptych.models.image_tokenizer._diffusers_kl import KlSizes, read_sizes, read_state, write_folder
from diptych.models.image_tokenizer._kl_module import AutoencoderKl, Latent
from diptych.models.image_tokenizer._picture_predictor import PicturePredictor, images_of
from diptych.models.image_tokenizer._picture_task import AdversarialConfig, Made, PictureLossConfig, PictureTask
from diptych.objectives.kl import standard_normal_kl

VERBS = ("reconstruct",)
READS = ("AutoencoderKL",)

MEAN = STD = (0.5, 0.5, 0.5)
"""Of the pixels of a fresh model: values from -1 to 1."""


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes, the scale of the latents, and what is learned from.

    Attributes:
        latent: how latents are scaled and mapped.
        kl: weight of the KL term.
    """

    autoencoder: AutoencoderConfig = field(default_factory=lambda: AutoencoderConfig((128, 256, 512, 512)))
    latent: Latent = field(default_factory=Latent)
    losses: PictureLossConfig = field(
        default_factory=lambda: PictureLossConfig(adversarial=AdversarialConfig(0.5, 50_001))
    )
    kl: float = 1e-6

    def __post_init__(self) -> None:
        if self.kl < 0:
            raise ConfigError(f"kl {self.kl} must not be negative")

    @classmethod
    def stable_diffusion(cls) -> Config:
        """That of Stable Diffusion 1 and 2: 512 pixels to 64 x 64 latents of 4 channels."""
        return cls()

    @classmethod
    def tiny(cls) -> Config:
        """64 pixels to 16 x 16 latents of 4 channels; their scale is measured."""
        return cls(
            AutoencoderConfig((64,), blocks=1, latent=4, groups=8, attention=False, patch=4),
            Latent(scaling=0.0),
            PictureLossConfig(0.0, 1.0, 0.1, AdversarialConfig(discriminator=DiscriminatorConfig(16, 2))),
        )


class AutoencoderKlTask(PictureTask):
    """Reconstruction of pictures from drawn latents, and the KL term; then the game, by a switch."""

    model: AutoencoderKl

    def __init__(
        self, config: Config, processor: PictureProcessor, perceptual: PerceptualNetwork | None = None
    ) -> None:
        super().__init__(config.losses, processor, perceptual)
        self.config = config
        self.model = AutoencoderKlPredictor.build(config, processor)

    def make(self, batch: PictureBatch) -> Made:
        target_BCHW = self.model.normalise(batch.pixels_BCHW)
        found = self.model(target_BCHW, batch.seeds)
        nats_B = standard_normal_kl(
            found.mean_BChw.to(target_BCHW.dtype), found.log_variance_BChw.to(target_BCHW.dtype)
        )
        per_value = nats_B.sum() / target_BCHW[0].numel()
        return Made(target_BCHW, found.pixels_BCHW, {}, {"kl": Part(per_value, batch.num_samples, self.config.kl)})

    def part_names(self) -> list[str]:
        return [*super().part_names(), "kl"]

    def last_weight(self) -> Tensor:
        return self.model.decoder.conv_out.weight

    def after_step(self) -> None:
        super().after_step()
        self.model.measured.after_step()

    def checkpoint_activations(self, on: bool) -> None:
        self.model.encoder.checkpointing = self.model.decoder.checkpointing = on

    def summary(self) -> dict[str, float]:
        return {"latent_scale": float(self.model.scale)}

    def predictor(self) -> AutoencoderKlPredictor:
        return AutoencoderKlPredictor(self.config, self.processor, self.model, "autoencoder_kl")


class AutoencoderKlPredictor(PicturePredictor[Config, AutoencoderKl]):
    """Brings pictures through the latents and back; `module` has `latents` and `pixels`."""

    VERBS = VERBS
    CONFIG = Config

    @classmethod
    def build(cls, config: Config, processor: PictureProcessor) -> AutoencoderKl:
        config.autoencoder.grid(processor.image.size, processor.image.size)
        return AutoencoderKl(config.autoencoder, config.latent, processor.image.mean, processor.image.std)

    @torch.inference_mode()
    def reconstruct(self, visuals: Sequence[Any] | Tensor) -> list[Image]:
        """The pictures through the likeliest latents and back, in the size and geometry of the model."""
        pictures: list[Image] = []
        for pixels_BCHW in self._batches(visuals):
            pictures += images_of(self.module.pixels(self.module.latents(pixels_BCHW)))
        return pictures


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, AutoencoderKlTask]:
    """With a measured scale, and with attention and the game against a discriminator, at their smallest."""
    processor = PictureProcessor(ImagePreprocessing(32, mean=MEAN, std=STD, views=None))
    small = AutoencoderConfig((16, 32), blocks=1, latent=4, groups=8, attention=False, patch=4)
    attending = AutoencoderConfig((16, 16, 32), blocks=1, latent=4, groups=8, patch=2)
    game = AdversarialConfig(0.02, discriminator=DiscriminatorConfig(16, 1))
    return {
        "measured": AutoencoderKlTask(
            Config(small, Latent(scaling=0.0), PictureLossConfig(0.0, 1.0, 0.1), kl=1e-3), processor
        ),
        "adversarial": AutoencoderKlTask(
            Config(attending, Latent(), PictureLossConfig(1.0, 0.0, 0.1, game), kl=1e-3), processor
        ),
    }


def weights_from(reference: str | Path) -> AutoencoderKlPredictor:
    """Weights of a diffusers AutoencoderKL folder or hub id.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder's architecture has a part that is not here.
    """
    folder = folder_of(reference)
    sizes = read_sizes(folder)
    config = Config(sizes.autoencoder, sizes.latent)
    processor = PictureProcessor(ImagePreprocessing(sizes.image_size, mean=MEAN, std=STD))
    module = AutoencoderKlPredictor.build(config, processor)
    load_into(module, read_state(folder, sizes, module.state_dict()), folder)
    return AutoencoderKlPredictor(config, processor, module, folder.name)


def export_to(predictor: AutoencoderKlPredictor, folder: Path) -> None:
    """Writes a diffusers AutoencoderKL folder; a measured scale becomes its `scaling_factor`.

    Raises:
        ConfigError: the model has a part that AutoencoderKL does not.
    """
    config, image = predictor.config, predictor.processor.image
    if image.mean != MEAN or image.std != STD:
        raise ConfigError(
            f"AutoencoderKL takes values from -1 to 1, and this model's mean is {image.mean}, std {image.std}"
        )
    sizes = KlSizes(config.autoencoder, config.latent, image.size)
    write_folder(folder, sizes, float(predictor.module.scale), predictor.module.state_dict())
