"""Sampling: rows apart from one another, steps that exist, and the exact answer where the data are one point."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.decoding.diffusion_sampler import SamplerConfig, sample
from diptych.objectives.diffusion import NoiseSchedule

SCHEDULE = NoiseSchedule()
POINT = torch.tensor([0.7, -0.4, 0.1])
SAMPLERS = {
    "ddim": SamplerConfig(clean_end=True),
    "ddim, drawn": SamplerConfig(clean_end=True, eta=1.0),
    "ddpm": SamplerConfig("ddpm"),
    "dpm": SamplerConfig("dpm_solver", "linspace"),
    "pndm": SamplerConfig("pndm", clean_end=True),
}


def knows(rows_N: Tensor, steps_N: Tensor) -> Tensor:
    """The noise in rows whose data are `POINT`: what a perfect network says."""
    kept = SCHEDULE.kept()[steps_N][:, None].float()
    return (rows_N - kept.sqrt() * POINT) / (1 - kept).sqrt()


def sampled(config: SamplerConfig, seeds: list[int], steps: int = 50, denoise: Any = knows) -> Tensor:
    return sample(config, SCHEDULE.betas(), "epsilon", denoise, (3,), steps, seeds, torch.zeros(1))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_network_that_knows_leads_to_the_data(kind: str) -> None:
    found = sampled(SAMPLERS[kind], [1, 2, 3])
    torch.testing.assert_close(found, POINT.expand(3, 3), atol=0.03, rtol=0)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_row_does_not_depend_on_those_beside_it(kind: str) -> None:
    def half(rows_N: Tensor, steps_N: Tensor) -> Tensor:
        return 0.5 * rows_N

    config = SAMPLERS[kind]
    together = sampled(config, [5, 6, 7], 8, half)
    assert torch.equal(together[1:2], sampled(config, [6], 8, half))
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parity("imagen", "diffusers DDPMScheduler", "dynamic thresholding", part=True)
def test_dynamic_thresholding_is_that_of_diffusers_and_keeps_numbers_within_one() -> None:
    import diffusers

    scheduler = diffusers.DDIMScheduler(
        thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=float("inf")
    )
    rows = 4 * torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scale = rows.abs().flatten(1).quantile(0.9, dim=1).clamp(min=1)[:, None, None, None]
    found = scheduler._threshold_sample(rows)
    torch.testing.assert_close(found, rows.clamp(-scale, scale) / scale)
    config = SamplerConfig(clean_end=True, threshold=0.9)

    def wild(rows_N: Tensor, steps_N: Tensor) -> Tensor:
        return -3 * torch.ones_like(rows_N)

    def made(config: SamplerConfig) -> Tensor:
        return sample(config, SCHEDULE.betas(), "epsilon", wild, (3, 4, 4), 10, [1, 2], torch.zeros(1))

    bounded, free, clipped = (
        made(config),
        made(SamplerConfig(clean_end=True)),
        made(SamplerConfig(clean_end=True, clip=True)),
    )
    assert bounded.abs().max() <= 1 + 1e-5 < free.abs().max()
    assert (clipped.abs() > 0.999).float().mean() > (bounded.abs() > 0.999).float().mean()  # the static one saturates


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eta": 2.0}, "shares"),
        ({"kind": "pndm", "clip": True}, "pndm has no"),
        ({"kind": "ddpm", "eta": 0.5}, "no eta"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SamplerConfig(**options)


def test_more_steps_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="take 1 to 1000"):
        sampled(SamplerConfig(), [1], 1001)
