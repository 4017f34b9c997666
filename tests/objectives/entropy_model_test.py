"""Bits of rounded vectors: a proper distribution, the entropy of a rounded Gaussian, gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import logistic, norm
from torch import Tensor
from torch.autograd import gradcheck

from diptych.core.errors import DataError
from diptych.objectives.entropy_model import (
    MixturePrior,
    bits,
    channel_bits,
    fitted_prior,
    rounded,
    standard_prior,
    with_noise,
)


def some_prior(*sizes: int, seed: int = 0) -> MixturePrior:
    generator = torch.Generator().manual_seed(seed)
    logits, centres, widths = torch.randn(3, *sizes, dtype=torch.float64, generator=generator)
    return MixturePrior(logits, 2 * centres, 0.5 * widths)


def rounded_gaussian_entropy(step: float, mean: float) -> float:
    """Of a Gaussian of deviation 1 in cells around the multiples of a step, by its definition."""
    edges = [(k - 0.5) * step - mean for k in range(-400, 401)]
    cells = [norm.cdf(b) - norm.cdf(a) for a, b in itertools.pairwise(edges)]
    return -sum(p * math.log2(p) for p in cells if p > 0)


def test_the_cells_of_a_channel_are_a_distribution() -> None:
    prior = some_prior(2, 4)
    step_C = torch.tensor([0.3, 1.7], dtype=torch.float64)
    cells_NC = torch.arange(-3000, 3001, dtype=torch.float64)[:, None] * step_C
    probabilities_NC = torch.exp2(-channel_bits(cells_NC, step_C, prior))
    assert probabilities_NC.sum(0).tolist() == pytest.approx([1.0, 1.0], abs=1e-9)


def test_bits_are_those_of_the_cumulative() -> None:
    prior = some_prior(2, 3)
    values_NC = torch.tensor([[0.0, 0.4], [-1.2, 3.0]], dtype=torch.float64)
    step_C = torch.tensor([0.5, 0.2], dtype=torch.float64)
    weights_CK = prior.logits_CK.softmax(-1)
    for n, row in enumerate(values_NC.tolist()):
        total = 0.0
        for c, value in enumerate(row):
            mass = 0.0
            for k in range(3):
                of_k = logistic(float(prior.centres_CK[c, k]), float(prior.log_widths_CK[c, k].exp()))
                half = float(step_C[c]) / 2
                mass += float(weights_CK[c, k]) * (of_k.cdf(value + half) - of_k.cdf(value - half))
            total -= math.log2(mass)
        assert float(bits(values_NC, step_C, prior)[n]) == pytest.approx(total, abs=1e-9)


def test_far_out_values_cost_their_exact_bits() -> None:
    """A logistic's tail falls by e a width: 10,000 widths out the cell's probability is below the smallest float."""
    prior = MixturePrior(*(torch.zeros(1, 1, dtype=torch.float64) for _ in range(3)))
    cost = bits(torch.tensor([[10_000.0]], dtype=torch.float64), torch.ones(1, dtype=torch.float64), prior)
    exact = (10_000 - 0.5 - math.log(1 - math.exp(-1))) / math.log(2)
    assert float(cost) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0, 2.0])
def test_a_fitted_prior_comes_to_the_entropy_of_a_rounded_gaussian(step: float) -> None:
    generator = torch.Generator().manual_seed(0)
    fit_NC, test_NC = 3.0 + 2.0 * torch.randn(2, 3000, 3, generator=generator)
    step_C = torch.full((3,), 2.0 * step)
    prior = fitted_prior(rounded(fit_NC, step_C), step_C)
    rate = float(bits(rounded(test_NC, step_C), step_C, prior).mean()) / 3
    assert rate == pytest.approx(rounded_gaussian_entropy(step, 1.5), abs=0.03)
    if step <= 0.5:
        assert rate == pytest.approx(0.5 * math.log2(2 * math.pi * math.e) - math.log2(step), abs=0.03)


def test_a_mixture_finds_two_lumps() -> None:
    """Values at -4 and 4 are one bit, which a single logistic does not find."""
    generator = torch.Generator().manual_seed(1)
    values_NC = torch.where(torch.rand(2000, 1, generator=generator) < 0.5, -4.0, 4.0)
    step_C = torch.ones(1)
    two = bits(values_NC, step_C, fitted_prior(values_NC, step_C, 2, steps=400)).mean()
    one = bits(values_NC, step_C, fitted_prior(values_NC, step_C, 1, steps=400)).mean()
    assert float(two) == pytest.approx(1.0, abs=0.05)
    assert float(one) > 2.5


def test_what_never_changes_costs_nothing() -> None:
    values_NC = torch.full((50, 2), 3.0)
    step_C = torch.ones(2)
    assert float(bits(values_NC, step_C, fitted_prior(values_NC, step_C)).mean()) < 0.05


def test_noise_stands_for_rounding_at_small_steps() -> None:
    generator = torch.Generator().manual_seed(2)
    values_NC = torch.randn(20_000, 1, generator=generator)
    step_C = torch.tensor([0.2])
    prior = standard_prior(1)
    noise_NC = torch.rand(values_NC.shape, generator=generator) - 0.5
    noisy = bits(with_noise(values_NC, step_C, noise_NC), step_C, prior).mean()
    assert float(noisy) == pytest.approx(float(bits(rounded(values_NC, step_C), step_C, prior).mean()), abs=0.01)


def test_rounding_takes_the_nearest_multiple_and_passes_no_gradient() -> None:
    step_C = torch.tensor([0.5, 2.0], requires_grad=True)
    assert rounded(torch.tensor([[0.7, 0.9], [-0.3, 3.1]]), step_C).tolist() == [[0.5, 0.0], [-0.5, 4.0]]
    assert not rounded(torch.zeros(1, 2), step_C).requires_grad


def test_gradients_in_values_step_and_prior() -> None:
    prior = some_prior(3, 2, 2, seed=3)
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(3, 5, 2, dtype=torch.float64, generator=generator)
    step = 0.2 + torch.rand(3, 2, dtype=torch.float64, generator=generator)
    noise = torch.rand(3, 5, 2, dtype=torch.float64, generator=generator) - 0.5

    def cost(values: Tensor, step: Tensor, *prior: Tensor) -> Tensor:
        return bits(with_noise(values, step, noise), step, MixturePrior(*prior))

    assert gradcheck(cost, tuple(x.requires_grad_() for x in (values, step, *prior)))


def test_every_sweep_is_its_own() -> None:
    """Leading sizes: each sweep's bits are those of its own step and prior."""
    prior, step_SC = some_prior(3, 2, 4), torch.tensor([[0.3, 0.6], [1.0, 2.0], [0.1, 4.0]], dtype=torch.float64)
    values_NC = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    coded = rounded(values_NC, step_SC)
    together = bits(coded, step_SC, prior)
    for s in range(3):
        alone = bits(rounded(values_NC, step_SC[s]), step_SC[s], MixturePrior(*(x[s] for x in prior)))
        assert together[s].tolist() == pytest.approx(alone.tolist(), abs=1e-12)


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        fitted_prior(torch.zeros(0, 2), torch.ones(2))
