"""A latent diffusion model for recipes that draw with one and are given none: an autoencoder, then the U-Net.

Its text tower is that of the contrastive model whose image tower the run reads pictures with, as Stable Diffusion's is
CLIP's; padding is read as text, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.batches.pictures import PictureProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.models.generative import stable_diffusion
from diptych.models.image_tokenizer import autoencoder_kl
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._image_tokens import part_of
from diptych.recipes._own_parts import CONTRAST, OwnParts
from diptych.training.run import Run
from diptych.training.stages import Context, Stage, Train, fitted_tokenizer

LATENTS, DENOISING = "autoencoder", "diffusion"


class Painter(NamedTuple):
    """A latent diffusion model: sizes, how pictures and captions are prepared, weights."""

    config: stable_diffusion.Config
    processor: ImageTextProcessor
    state: Mapping[str, Tensor]


def tiny_painter() -> stable_diffusion.Config:
    """The tiny sizes, padding read as text."""
    sizes = stable_diffusion.Config.tiny()
    return replace(sizes, text=replace(sizes.text, padding="constant"))


@dataclass(frozen=True, kw_only=True)
class OwnDiffusion(OwnParts):
    """A run on a vision tower, a language model and a latent diffusion model.

    Attributes:
        diffusion: a run folder of one, or a diffusers folder; "" for one that is trained first.
        painter: its sizes; the text tower is `towers`'.
        latents: how its autoencoder is trained.
        losses: what that learns from.
        denoising: how the U-Net is trained.
        averaged: decay of the average of the U-Net's weights.
    """

    diffusion: str = ""
    painter: stable_diffusion.Config = field(default_factory=tiny_painter)
    losses: autoencoder_kl.Config = field(default_factory=autoencoder_kl.Config.tiny)
    latents: EarlierStage = field(default_factory=lambda: EarlierStage(1000, 8, 2e-3))
    denoising: EarlierStage = field(default_factory=lambda: EarlierStage(1500, 32, 1e-3, weight_decay=0.01))
    averaged: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.diffusion and not Path(self.diffusion).is_dir():
            raise ConfigError(f"--diffusion: no folder at {self.diffusion}")
        if self.image_tower and not self.diffusion:
            raise ConfigError(
                "the own diffusion model reads texts by the tower that is trained beside the own image tower: give "
                "--diffusion beside --image_tower, or neither"
            )

    def diffusion_stages(self) -> Sequence[Stage]:
        """Those that make what is not given."""
        return () if self.diffusion else (self._latents(), self._denoising())

    def painter_of(self, context: Context) -> Painter:
        """The diffusion model that is drawn with.

        Raises:
            ConfigError: the folder holds another kind of model.
        """
        if not self.diffusion:
            sizes, processor = self._drawing(context)
            return Painter(sizes, processor, part_of(context.trained(DENOISING), "model."))
        model = load(self.diffusion)
        if not isinstance(model, stable_diffusion.StableDiffusionPredictor):
            raise ConfigError(f"--diffusion: {self.diffusion} holds no Stable Diffusion but {model.name}")
        return Painter(model.config, model.processor, model.module.state_dict())

    def _pictures(self) -> ImagePreprocessing:
        return replace(self.image, mean=autoencoder_kl.MEAN, std=autoencoder_kl.STD)

    def _drawing(self, context: Context) -> tuple[stable_diffusion.Config, ImageTextProcessor]:
        words = fitted_tokenizer(context)
        text = replace(self.towers.text, vocab_size=words.vocab_size, context=self.context, padding="constant")
        texts = TextPreprocessing(self.context, pad_to_max=True)
        processor = ImageTextProcessor(ImageTextConfig(self._pictures(), texts), words)
        return replace(self.painter, text=text), processor

    def _latents(self) -> Train:
        sizes = replace(self.losses, autoencoder=self.painter.autoencoder, latent=self.painter.latent)
        return Train(
            LATENTS,
            source=lambda context: self._data_of_parts(),
            task=lambda context: autoencoder_kl.AutoencoderKlTask(sizes, PictureProcessor(self._pictures())),
            settings=self.latents.applied_to(self),
        )

    def _denoising(self) -> Train:
        def task(context: Context) -> stable_diffusion.StableDiffusionTask:
            text = dict(part_of(context.trained(CONTRAST), "model.text."))
            text["positions_TD"] = text["positions_TD"][: self.context]
            latents = part_of(context.trained(LATENTS), "model.")
            return stable_diffusion.StableDiffusionTask(*self._drawing(context), text, latents)

        settings: Run = replace(self.denoising.applied_to(self), ema_decay=self.averaged)
        return Train(DENOISING, source=lambda context: self._data_of_parts(), task=task, settings=settings)
