"""Schedules, targets and what they amount to: diffusers' numbers, and each other's."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.objectives.diffusion import (
    NoiseSchedule,
    clean_in,
    drawn_noise,
    drawn_steps,
    noise_in,
    noised,
    squared_error,
    target,
)

SCHEDULES: dict[str, NoiseSchedule] = {
    "scaled_linear": NoiseSchedule(),
    "linear": NoiseSchedule("linear", 500, 1e-4, 0.02),
    "squaredcos_cap_v2": NoiseSchedule("squaredcos_cap_v2", 300),
}


def theirs(schedule: NoiseSchedule, **more: Any) -> Any:
    return diffusers.DDIMScheduler(
        num_train_timesteps=schedule.steps, beta_start=schedule.first, beta_end=schedule.last,
        beta_schedule=schedule.kind, **more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", SCHEDULES)
def test_as_much_is_kept_as_in_diffusers(kind: str) -> None:
    schedule = SCHEDULES[kind]
    torch.testing.assert_close(schedule.kept().float(), theirs(schedule).alphas_cumprod, rtol=2e-5, atol=1e-7)


def test_the_numbers_of_stable_diffusion() -> None:
    kept = NoiseSchedule().kept()
    assert [round(float(kept[step]), 5) for step in (0, 499, 999)] == [0.99915, 0.27767, 0.00466]


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    steps = torch.tensor([0, 1, 500, 999])
    return clean, noise, steps, NoiseSchedule().kept()[steps]


def test_noise_and_v_are_those_of_diffusers() -> None:
    clean, noise, steps, kept = rows()
    reference = theirs(NoiseSchedule())
    torch.testing.assert_close(
        noised(clean, noise, kept), reference.add_noise(clean, noise, steps), rtol=1e-5, atol=1e-6
    )
    wanted = reference.get_velocity(clean, noise, steps)
    torch.testing.assert_close(target(clean, noise, kept, "v_prediction"), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_what_is_asked_for_gives_noise_and_data_back(prediction: Any) -> None:
    clean, noise, _, kept = rows()
    seen, said = noised(clean, noise, kept), target(clean, noise, kept, prediction)
    torch.testing.assert_close(noise_in(said, seen, kept, prediction), noise, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(clean_in(said, seen, kept, prediction), clean, rtol=1e-8, atol=1e-8)


def test_saying_nothing_costs_one_for_noise() -> None:
    noise = drawn_noise(list(range(64)), torch.zeros(64, 4, 16, 16))
    assert abs(float(squared_error(torch.zeros_like(noise), noise).mean()) - 1) < 0.02


def test_draws_are_functions_of_each_seed() -> None:
    like = torch.zeros(3, 2, 2)
    together, alone = drawn_noise([1, 2, 3], like), drawn_noise([2], like[:1])
    assert torch.equal(together[1], alone[0]) and not torch.equal(together[0], together[1])
    assert drawn_steps([1, 2, 3], 1000)[1] == drawn_steps([2], 1000)[0]
    counts = torch.bincount(drawn_steps(list(range(4000)), 4), minlength=4)
    assert counts.sum() == 4000 and (counts - 1000).abs().max() < 120


@pytest.mark.parametrize("change", [{"steps": 0}, {"first": 0.5, "last": 0.1}, {"last": 1.0}])
def test_a_schedule_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="betas"):
        NoiseSchedule(**change)
