"""From noise to data, step by step, by the schedulers of diffusers.

DDIM (Song et al. 2020, arXiv 2010.02502), DDPM (Ho et al. 2020, arXiv 2006.11239), DPM-Solver++ (Lu et al. 2022, arXiv
2211.01095) and PNDM (Liu et al. 2022, arXiv 2202.09778). Each row begins at noise of its own seed, and draws what its
sampler draws from a generator of its own, so it does not depend on the rows beside it.

N rows, S steps of training.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.seeding import hash_to_int, normal_like

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Rows with noise [N, ...] and the step of each [N] -> what the network says of them."""


@dataclass(frozen=True)
class SamplerConfig:
    """Which sampler, in which of diffusers' ways.

    Attributes:
        spacing: of the steps that are taken among those of training: "leading", "trailing" or "linspace".
        offset: what is added to the steps of "leading".
        clean_end: whether the last step goes to no noise at all, instead of to the least of training.
        eta: of DDIM: how much is drawn, from 0, nothing, to 1, as much as DDPM.
        clip: whether what the data seem to be is kept within -1 and 1 at every step.
        threshold: instead, the share of the numbers by whose size a row is scaled down where that is above 1: dynamic
            thresholding (Imagen, arXiv 2205.11487, section 2.3); 0 for none.
    """

    kind: Literal["ddim", "ddpm", "dpm_solver", "pndm"] = "ddim"
    spacing: Literal["leading", "trailing", "linspace"] = "leading"
    offset: int = 1
    clean_end: bool = False
    eta: float = 0.0
    clip: bool = False
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1 or not 0 <= self.threshold < 1 or self.offset < 0:
            raise ConfigError(
                f"eta {self.eta} and threshold {self.threshold} are shares from 0 to 1, and offset {self.offset} is 0 "
                f"or more"
            )
        if (self.eta and self.kind != "ddim") or (
            (self.clip or self.threshold) and self.kind in ("dpm_solver", "pndm")
        ):
            raise ConfigError(f"{self.kind} has no eta, clip or threshold: leave them out, or take ddim")


@torch.inference_mode()
def sample(
    config: SamplerConfig, betas_S: Tensor, prediction: str, denoise: Denoise, shape: Sequence[int], steps: int,
    seeds: Sequence[int], like: Tensor,
) -> Tensor:  # fmt: skip
    """Rows [N, *shape].

    Args:
        betas_S: of training.
        prediction: what the network was asked for, in diffusers' words.
        steps: how many are taken.
        seeds: one a row.
        like: gives the device and the kind of number.

    Raises:
        ConfigError: more steps than there are in training.
    """
    if not 1 <= steps <= len(betas_S):
        raise ConfigError(f"{steps} sampling steps of {len(betas_S)} there are in training: take 1 to {len(betas_S)}")
    scheduler = _scheduler(config, betas_S, prediction)
    scheduler.set_timesteps(steps)
    rows_N: Tensor = (normal_like(seeds, shape) * scheduler.init_noise_sigma).to(like)
    draws = [torch.Generator().manual_seed(hash_to_int("sampler", seed)) for seed in seeds]
    more: dict[str, Any] = {} if config.kind == "pndm" else {"generator": draws}
    if config.kind == "ddim":
        more["eta"] = config.eta
    for step in scheduler.timesteps:
        said_N = denoise(scheduler.scale_model_input(rows_N, step), step.expand(len(rows_N)).to(like.device))
        rows_N = scheduler.step(said_N, step, rows_N, **more).prev_sample
    return rows_N


def _scheduler(config: SamplerConfig, betas_S: Tensor, prediction: str) -> Any:
    """diffusers' object; imported here, since it takes seconds."""
    diffusers: Any = importlib.import_module("diffusers")
    betas = betas_S.to(torch.float32).numpy()
    common = {
        "num_train_timesteps": len(betas), "trained_betas": betas, "prediction_type": prediction,
        "timestep_spacing": config.spacing, "steps_offset": config.offset,
    }  # fmt: skip
    if config.kind == "dpm_solver":
        return diffusers.DPMSolverMultistepScheduler(**common)
    if config.kind == "pndm":
        return diffusers.PNDMScheduler(**common, skip_prk_steps=True, set_alpha_to_one=config.clean_end)
    bounded = {
        "clip_sample": config.clip, "thresholding": config.threshold > 0,
        "dynamic_thresholding_ratio": config.threshold or 0.995, "sample_max_value": float("inf"),
    }  # fmt: skip
    if config.kind == "ddpm":
        return diffusers.DDPMScheduler(**common, **bounded)
    return diffusers.DDIMScheduler(**common, **bounded, set_alpha_to_one=config.clean_end)
