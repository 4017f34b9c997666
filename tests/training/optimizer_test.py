"""AdamW, the learning rate and clipping against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diptych.core.errors import ConfigError
from diptych.core.task import ParamGroup, decay_groups
from diptych.training.optimizer import AdamWConfig, WarmupCosine, clip_gradients, set_learning_rate

LR, BETA1, BETA2, EPS, DECAY = 0.1, 0.8, 0.9, 1e-3, 0.5


def adamw(start: float, slopes: list[float], lr: float, decay: float) -> float:
    """Loshchilov and Hutter's algorithm 2 on one number."""
    value, first, second = start, 0.0, 0.0
    for step, slope in enumerate(slopes, 1):
        value -= lr * decay * value
        first = BETA1 * first + (1 - BETA1) * slope
        second = BETA2 * second + (1 - BETA2) * slope**2
        value -= lr * (first / (1 - BETA1**step)) / (math.sqrt(second / (1 - BETA2**step)) + EPS)
    return value


class Mixed(nn.Module):
    """A matrix, a vector, a scalar and something frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.full((2, 2), 3.0, dtype=torch.float64))
        self.gain = nn.Parameter(torch.full((2,), 3.0, dtype=torch.float64))
        self.scale = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.full((2, 2), 3.0, dtype=torch.float64), requires_grad=False)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_steps_of_adamw_decay_matrices_only_at_their_own_rate(scale: float) -> None:
    module = Mixed()
    config = AdamWConfig(lr=LR, beta1=BETA1, beta2=BETA2, eps=EPS, weight_decay=DECAY)
    optimizer = config.build(decay_groups(module, lr_scale=scale))
    set_learning_rate(optimizer, LR)
    for slope in (0.7, -0.2):
        for parameter in (module.matrix, module.gain, module.scale):
            parameter.grad = torch.full_like(parameter, slope)
        optimizer.step()
    decayed = adamw(3.0, [0.7, -0.2], LR * scale, DECAY)
    plain = adamw(3.0, [0.7, -0.2], LR * scale, 0.0)
    assert abs(decayed - plain) > 0.01
    torch.testing.assert_close(module.matrix.detach(), torch.full((2, 2), decayed).double(), rtol=1e-7, atol=0)
    torch.testing.assert_close(module.gain.detach(), torch.full((2,), plain).double(), rtol=1e-7, atol=0)
    torch.testing.assert_close(module.scale.detach(), torch.tensor(plain).double(), rtol=1e-7, atol=0)
    assert torch.equal(module.frozen, torch.full((2, 2), 3.0).double())


def test_the_first_step_is_the_learning_rate_whatever_the_gradient() -> None:
    parameter = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = AdamWConfig(lr=1.0, eps=1e-12).build([ParamGroup({"p": parameter}, decay=False)])
    set_learning_rate(optimizer, 0.01)
    parameter.grad = torch.tensor([1e-3, -1e3], dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.01, 0.01]).double(), rtol=1e-6, atol=0)


def test_a_model_that_is_all_frozen_is_refused() -> None:
    for groups in ([], [ParamGroup({})]):
        with pytest.raises(ConfigError, match="nothing to train"):
            AdamWConfig().build(groups)


def test_the_warm_up_rises_in_equal_steps_and_the_cosine_falls_to_what_is_left() -> None:
    schedule = WarmupCosine(warmup=4, final=0.1)
    found = [schedule.factor(step, steps=12) for step in range(12)]
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])  # never zero: every step counts
    root = math.sqrt(0.5)
    assert found[4] == pytest.approx(1.0)
    assert found[6] == pytest.approx(0.1 + 0.9 * (1 + root) / 2)  # a quarter of the way down: cos(pi / 4)
    assert found[8] == pytest.approx(0.55)
    assert found[10] == pytest.approx(0.1 + 0.9 * (1 - root) / 2)
    assert schedule.factor(12, steps=12) == pytest.approx(0.1)
    assert schedule.factor(500, steps=12) == pytest.approx(0.1)


def test_schedules_without_a_warm_up_or_without_anything_after_it() -> None:
    assert WarmupCosine(warmup=0).factor(0, steps=1) == 1.0
    assert WarmupCosine(warmup=0).factor(1, steps=2) == pytest.approx(0.5)
    assert [WarmupCosine(warmup=3).factor(step, steps=3) for step in range(3)] == pytest.approx([0.25, 0.5, 0.75])
    assert WarmupCosine(warmup=10).factor(4, steps=5) == pytest.approx(5 / 11)  # a budget shorter than its warm-up


def clipped(largest: float | None) -> tuple[float, list[torch.Tensor]]:
    """Norm and gradients after clipping (3, 0) and 4, whose common norm is 5."""
    vector, scalar = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(()))
    optimizer = AdamWConfig().build([ParamGroup({"v": vector}), ParamGroup({"s": scalar}, decay=False)])
    vector.grad, scalar.grad = torch.tensor([3.0, 0.0]), torch.tensor(4.0)
    norm = clip_gradients(optimizer, largest)
    return float(norm), [vector.grad, scalar.grad]


def test_clipping_scales_all_gradients_by_one_factor_and_returns_the_norm_before() -> None:
    norm, (vector, scalar) = clipped(2.0)
    assert norm == pytest.approx(5.0)
    assert vector.tolist() == pytest.approx([1.2, 0.0], rel=1e-5)
    assert float(scalar) == pytest.approx(1.6, rel=1e-5)


@pytest.mark.parametrize("largest", [None, 5.01])
def test_gradients_within_the_limit_and_without_one_are_left_alone(largest: float | None) -> None:
    norm, (vector, scalar) = clipped(largest)
    assert (norm, vector.tolist(), float(scalar)) == (5.0, [3.0, 0.0], 4.0)
