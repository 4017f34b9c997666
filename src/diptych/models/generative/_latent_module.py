"""Stable Diffusion's modules: a frozen text tower and a frozen autoencoder around a U-Net.

B batch, T text tokens, X their width, C latent channels, h rows and w columns of latents, S steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.seeding import hash_to_int
from diptych.decoding.diffusion_sampler import SamplerConfig
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.text_transformer import TextConfig, TextTransformer
from diptych.layers.unet import UNet, UNetConfig
from diptych.models.generative._diffusion_classifier import ClassifierConfig
from diptych.models.image_tokenizer._kl_module import AutoencoderKl, Latent
from diptych.objectives.diffusion import (
    NoiseSchedule,
    Prediction,
    drawn_noise,
    drawn_steps,
    noised,
    squared_error,
    target,
)


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes and choices; the defaults are those of Stable Diffusion 1.

    Attributes:
        schedule: of the noise in training.
        prediction: what the U-Net is asked for: the noise, or v.
        drop: share of the samples that are trained without their text, for guidance.
        guidance, steps: of sampling, where a caller says nothing.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    autoencoder: AutoencoderConfig = field(default_factory=lambda: AutoencoderConfig((128, 256, 512, 512)))
    latent: Latent = field(default_factory=Latent)
    text: TextConfig = field(default_factory=lambda: TextConfig(width=768, heads=12, hidden=3072, padding="constant"))
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    prediction: Prediction = "epsilon"
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    drop: float = 0.1
    guidance: float = 7.5
    steps: int = 50

    def __post_init__(self) -> None:
        unet = self.unet
        if not unet.inputs == unet.outputs == self.autoencoder.latent:
            raise ConfigError(
                f"a U-Net of {unet.inputs} channels in and {unet.outputs} out does not fit latents of "
                f"{self.autoencoder.latent} channels"
            )
        if unet.text != self.text.width:
            raise ConfigError(
                f"a U-Net that reads tokens of width {unet.text} does not fit a text of {self.text.width}"
            )
        if not 0 <= self.drop < 1 or self.guidance < 0 or self.steps < 1:
            raise ConfigError(
                f"drop {self.drop} is a share, guidance {self.guidance} 0 or more, steps {self.steps} 1 up"
            )

    @classmethod
    def tiny(cls, vocab_size: int = 512) -> Self:
        """32 pixels as 8 x 8 latents of 8 channels, asked for v; trains on a CPU in minutes."""
        return cls(
            UNetConfig(8, 8, (48, 96), 1, (True, True), (4,), 16, 96),
            AutoencoderConfig((64,), blocks=1, latent=8, groups=8, attention=False, patch=4),
            Latent(scaling=0.0),
            TextConfig(vocab_size, 64, 96, 3, 3, 384),
            # Where noise is most of the input, and a text decides what is drawn, the noise itself is easily told.
            prediction="v_prediction",
            guidance=3.0,
            steps=25,
        )

    def with_vocabulary(self, size: int) -> Self:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))


class Told(NamedTuple):
    """What the U-Net is told of texts.

    Attributes:
        states_BTX: of every token.
        mask_B1T: True where a token is no padding; None where padding is read as text.
    """

    states_BTX: Tensor
    mask_B1T: Tensor | None

    def rows(self, places: Tensor) -> Told:
        """Some of the texts, in this order."""
        return Told(self.states_BTX[places], None if self.mask_B1T is None else self.mask_B1T[places])


class LatentDiffusion(nn.Module):
    """Text tower, autoencoder, U-Net, and how much of the data is left at each step."""

    def __init__(self, config: Config, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.config = config
        self.text = TextTransformer(config.text).requires_grad_(requires_grad=False)
        self.autoencoder = AutoencoderKl(config.autoencoder, config.latent, mean, std)
        self.autoencoder.requires_grad_(requires_grad=False)
        self.unet = UNet(config.unet)
        self.register_buffer("kept_S", config.schedule.kept().float(), persistent=False)
        self.kept_S: Tensor

    @torch.no_grad()
    def tell(self, tokens_BT: Tensor, lengths_B: Tensor) -> Told:
        """What is told of texts; the tower is frozen.

        Raises:
            DataError: a text longer than the context.
        """
        states_BTX = self.text.tokens(tokens_BT, lengths_B)
        if self.config.text.padding == "constant":
            return Told(states_BTX, None)
        places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        return Told(states_BTX, (places_T < lengths_B[:, None])[:, None])

    def errors(self, pixels_BCHW: Tensor, seeds: Sequence[int], told: Told) -> Tensor:
        """The mean square of what the U-Net gets wrong of each picture [B], at a step and noise drawn by its seed."""
        config = self.config
        clean = self.autoencoder.latents(pixels_BCHW, [hash_to_int("latent", seed) for seed in seeds])
        steps_B = drawn_steps(seeds, config.schedule.steps).to(clean.device)
        noise, kept_B = drawn_noise(seeds, clean), self.kept_S[steps_B]
        said = self(noised(clean, noise, kept_B), steps_B, told)
        return squared_error(said, target(clean, noise, kept_B, config.prediction))

    def forward(self, noised_BChw: Tensor, steps_B: Tensor, told: Told) -> Tensor:
        """What the U-Net says of latents with noise [B, C, h, w]."""
        out: Tensor = self.unet(noised_BChw, steps_B, told.states_BTX.to(noised_BChw.dtype), told.mask_B1T)
        return out
