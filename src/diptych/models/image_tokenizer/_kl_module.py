"""The modules of the autoencoder with a KL term: encoder, decoder, and the scale of the latents.

B batch, C latent channels, H height, W width, h rows and w columns of latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError, DataError
from diptych.core.seeding import normal_like
from diptych.distributed.gather import sum_over_ranks
from diptych.layers.conv_autoencoder import AutoencoderConfig, ConvDecoder, ConvEncoder
from diptych.layers.normalise import Normalise
from diptych.models.image_tokenizer._picture_predictor import at_least_one

_LOG_VARIANCE = (-30.0, 20.0)
"""Limits of the encoder's log variance, as in released code."""
_DECAY = 0.99


@dataclass(frozen=True)
class Latent:
    """How latents are scaled and mapped.

    Attributes:
        scaling: what latents are multiplied by for others; 0 to measure 1 / their standard deviation in training.
        shift: what is taken away first.
        encoder_map, decoder_map: whether a 1 x 1 convolution stands after the encoder, and before the decoder.
    """

    scaling: float = 0.18215
    shift: float = 0.0
    encoder_map: bool = True
    decoder_map: bool = True

    def __post_init__(self) -> None:
        if self.scaling < 0:
            raise ConfigError(f"latent.scaling {self.scaling} must be above 0, or 0 to measure it")


class Passed(NamedTuple):
    """One pass over pictures: prepared pixels, and the distribution of the latents that they were made of."""

    pixels_BCHW: Tensor
    mean_BChw: Tensor
    log_variance_BChw: Tensor


class MeasuredScale(nn.Module):
    """Moving averages of the first two moments of what was seen in training, over all processes.

    Both begin at zero and are divided by a weight that does too, so they have no bias at the start. A step counts in
    `after_step`, so nothing depends on how its batch was cut.
    """

    moments_3: Tensor
    step_3: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("moments_3", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("step_3", torch.zeros(3, dtype=torch.float64), persistent=False)

    @torch.no_grad()
    def see(self, values: Tensor) -> None:
        """Adds up count, sum and sum of squares."""
        rows = values.detach().double()
        self.step_3 += torch.stack([torch.full_like(rows.sum(), rows.numel()), rows.sum(), rows.square().sum()])

    @torch.no_grad()
    def after_step(self) -> None:
        """Takes in what all processes saw; every process calls it after every step."""
        count, total, squares = sum_over_ranks(self.step_3).unbind()
        count = count.clamp(min=1)
        now_3 = torch.stack([torch.ones_like(count), total / count, squares / count])
        self.moments_3.lerp_(now_3.to(self.moments_3.dtype), 1 - _DECAY)
        self.step_3.zero_()

    @property
    def factor(self) -> Tensor:
        """1 / standard deviation; 1 before anything was seen."""
        weight, mean, square = self.moments_3.double().unbind()
        variance = square / weight - (mean / weight).square()
        return torch.where(weight > 0, variance.clamp(min=1e-12).rsqrt(), torch.ones_like(weight))


class AutoencoderKl(nn.Module):
    """Encoder, decoder and scale; `latents`, `pixels` and `grid` are what others use of it."""

    def __init__(self, config: AutoencoderConfig, latent: Latent, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        channels = config.latent
        self.config, self.latent = config, latent
        self.normalise = Normalise(mean, std)
        self.encoder = ConvEncoder(config, outputs=2 * channels)
        self.to_latent = nn.Conv2d(2 * channels, 2 * channels, 1) if latent.encoder_map else nn.Identity()
        self.from_latent = nn.Conv2d(channels, channels, 1) if latent.decoder_map else nn.Identity()
        self.decoder = ConvDecoder(config)
        self.measured = MeasuredScale()
        self.register_buffer("mean_C11", torch.tensor(tuple(mean))[:, None, None], persistent=False)
        self.register_buffer("std_C11", torch.tensor(tuple(std))[:, None, None], persistent=False)
        self.mean_C11: Tensor
        self.std_C11: Tensor

    @property
    def channels(self) -> int:
        """Of the latents."""
        return self.config.latent

    def grid(self, image_size: int) -> tuple[int, int]:
        """Rows and columns of latents of a square picture.

        Raises:
            ConfigError: the size is not divisible by what a latent covers.
        """
        return self.config.grid(image_size, image_size)

    @property
    def scale(self) -> Tensor:
        """What `latents` multiplies by: the configuration's constant, or what was measured."""
        if self.latent.scaling:
            return self.measured.moments_3.new_tensor(self.latent.scaling)
        return self.measured.factor

    @torch.no_grad()
    def latents(self, pixels_BCHW: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Scaled latents [B, C, h, w] of uint8 or prepared pixels; no gradient.

        Args:
            seeds: one a picture, to draw from the encoder's distribution; None for its mode.

        Raises:
            ConfigError: the picture's sides are not divisible by what a latent covers.
            DataError: not one seed a picture.
        """
        if seeds is not None and len(seeds) != len(pixels_BCHW):
            raise DataError(f"{len(seeds)} seeds for {len(pixels_BCHW)} pictures: give one for each")
        mean_BChw, log_variance_BChw = self.encode(at_least_one(pixels_BCHW))
        found_BChw = mean_BChw[: len(pixels_BCHW)]
        if seeds:
            found_BChw = drawn(found_BChw, log_variance_BChw, seeds)
        return (found_BChw - self.latent.shift) * self.scale.to(found_BChw.dtype)

    @torch.no_grad()
    def pixels(self, latents_BChw: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [0, 1] of scaled latents; no gradient.

        Raises:
            DataError: they have another number of channels.
        """
        if latents_BChw.ndim != 4 or latents_BChw.shape[1] != self.channels:
            raise DataError(f"latents are [N, {self.channels}, h, w], and these are {list(latents_BChw.shape)}")
        unscaled_BChw = at_least_one(latents_BChw) / self.scale.to(latents_BChw.dtype) + self.latent.shift
        pixels_BCHW = self.decode(unscaled_BChw)
        return (pixels_BCHW * self.std_C11 + self.mean_C11).clamp(0, 1)[: len(latents_BChw)]

    def encode(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance [B, C, h, w] of the latents, without scale."""
        self.config.grid(*pixels_BCHW.shape[2:])
        mean_BChw, log_variance_BChw = self.to_latent(self.encoder(self.normalise(pixels_BCHW))).chunk(2, dim=1)
        return mean_BChw, log_variance_BChw.clamp(*_LOG_VARIANCE)

    def decode(self, latents_BChw: Tensor) -> Tensor:
        """Prepared pixels of latents without scale."""
        out: Tensor = self.decoder(self.from_latent(latents_BChw))
        return out

    def forward(self, pixels_BCHW: Tensor, seeds: Sequence[int] | None = None) -> Passed:
        """A reconstruction with gradients; `seeds`, one a picture, to draw the latents."""
        mean_BChw, log_variance_BChw = self.encode(pixels_BCHW)
        latents_BChw = mean_BChw if seeds is None else drawn(mean_BChw, log_variance_BChw, seeds)
        if self.training and torch.is_grad_enabled() and not self.latent.scaling:
            self.measured.see(latents_BChw)
        return Passed(self.decode(latents_BChw), mean_BChw, log_variance_BChw)


def drawn(mean_BChw: Tensor, log_variance_BChw: Tensor, seeds: Sequence[int]) -> Tensor:
    """A draw from a Gaussian of every value, a row a function of its seed alone."""
    noise_BChw = normal_like(seeds, mean_BChw.shape[1:]).to(mean_BChw)
    return mean_BChw + torch.exp(0.5 * log_variance_BChw) * noise_BChw
