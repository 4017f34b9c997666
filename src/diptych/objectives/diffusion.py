"""Diffusion: how noise is added to data, what a network is asked about it, and the error.

x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e (Ho et al. 2020, arXiv 2006.11239, equation 4; a_t is the product of 1 - beta).
A network may be asked for the noise e ("epsilon"), for the data ("sample") or for v = sqrt(a_t) e - sqrt(1 - a_t) x_0
("v_prediction": Salimans and Ho 2022, arXiv 2202.00512); any of them gives the others.

N rows, S steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.seeding import hash_to_int, normal_like

Prediction = Literal["epsilon", "v_prediction", "sample"]
Betas = Literal["scaled_linear", "linear", "squaredcos_cap_v2"]


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise there is at each step, in diffusers' words.

    Attributes:
        kind: "scaled_linear", even steps of the square root of beta (Stable Diffusion); "linear", of beta itself;
            "squaredcos_cap_v2", the cosine of Nichol and Dhariwal 2021 (arXiv 2102.09672, equation 17), which knows
            neither `first` nor `last`.
        steps: S.
        first, last: beta of the first and of the last step.
    """

    kind: Betas = "scaled_linear"
    steps: int = 1000
    first: float = 0.00085
    last: float = 0.012

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.first <= self.last < 1:
            raise ConfigError(
                f"a schedule of {self.steps} steps with betas from {self.first} to {self.last}: give 1 step or more, "
                f"and betas that rise between 0 and 1"
            )

    def kept(self) -> Tensor:
        """a_t [S], float64: the share of the variance that is data, from almost all of it to almost none."""
        return (1 - self.betas()).cumprod(0)

    def betas(self) -> Tensor:
        """[S], float64: the share of the variance that each step replaces by noise."""
        steps = self.steps
        if self.kind == "scaled_linear":
            return torch.linspace(self.first**0.5, self.last**0.5, steps, dtype=torch.float64).square()
        if self.kind == "linear":
            return torch.linspace(self.first, self.last, steps, dtype=torch.float64)
        after = torch.arange(steps + 1, dtype=torch.float64) / steps
        left = torch.cos((after + 0.008) / 1.008 * math.pi / 2).square()
        return (1 - left[1:] / left[:-1]).clamp(max=0.999)


def noised(clean_N: Tensor, noise_N: Tensor, kept_N: Tensor) -> Tensor:
    """x_t of rows of any shape.

    Args:
        kept_N: a_t of each row [N].
    """
    data, rest = _roots(kept_N, clean_N)
    return data * clean_N + rest * noise_N


def target(clean_N: Tensor, noise_N: Tensor, kept_N: Tensor, prediction: Prediction) -> Tensor:
    """What the network should have said."""
    if prediction == "epsilon":
        return noise_N
    if prediction == "sample":
        return clean_N
    data, rest = _roots(kept_N, clean_N)
    return data * noise_N - rest * clean_N


def noise_in(said_N: Tensor, noised_N: Tensor, kept_N: Tensor, prediction: Prediction) -> Tensor:
    """The noise that the network's words amount to."""
    data, rest = _roots(kept_N, noised_N)
    if prediction == "epsilon":
        return said_N
    if prediction == "sample":
        return (noised_N - data * said_N) / rest
    return data * said_N + rest * noised_N


def clean_in(said_N: Tensor, noised_N: Tensor, kept_N: Tensor, prediction: Prediction) -> Tensor:
    """The data that the network's words amount to."""
    data, rest = _roots(kept_N, noised_N)
    if prediction == "sample":
        return said_N
    if prediction == "epsilon":
        return (noised_N - rest * said_N) / data
    return data * noised_N - rest * said_N


def squared_error(said_N: Tensor, wanted_N: Tensor) -> Tensor:
    """The mean square over the numbers of each row [N]; of a network that says 0 for noise it is about 1.

    In float32 at least.
    """
    exact = said_N.float() if said_N.dtype in (torch.bfloat16, torch.float16) else said_N
    return (exact - wanted_N).square().flatten(1).mean(1)


def _roots(kept_N: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(a_t) and sqrt(1 - a_t) of each row, to multiply rows with."""
    kept = kept_N.to(like.device).reshape(-1, *[1] * (like.ndim - 1))
    return kept.sqrt().to(like.dtype), (1 - kept).sqrt().to(like.dtype)


def drawn_steps(seeds: Sequence[int], steps: int, purpose: str = "diffusion step") -> Tensor:
    """A step [N] of each row, evenly from 0 to `steps` - 1, a function of its seed alone."""
    rngs = [np.random.Generator(np.random.PCG64(hash_to_int(purpose, seed))) for seed in seeds]
    return torch.tensor([int(rng.integers(steps)) for rng in rngs], dtype=torch.int64)


def drawn_noise(seeds: Sequence[int], like: Tensor, purpose: str = "diffusion noise") -> Tensor:
    """Standard normal noise in the shape of some rows, a row a function of its seed alone."""
    rows = normal_like([hash_to_int(purpose, seed) for seed in seeds], like.shape[1:])
    return rows.to(device=like.device, dtype=like.dtype) if seeds else like
