"""The hinge game, its adaptive weight, perceptual distance, KL and logit-Laplace: closed forms and references."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from diptych.objectives.adversarial import adaptive_weight, discriminator_hinge, generator_hinge
from diptych.objectives.kl import standard_normal_kl
from diptych.objectives.logit_laplace import logit_laplace, squeezed, unsqueezed
from diptych.objectives.perceptual import perceptual_distance


def test_hinge_by_hand() -> None:
    real = torch.tensor([2.0, 0.5, -1.0, 1.0]).view(1, 1, 2, 2)
    made = torch.tensor([-2.0, 0.0, 1.0, -0.5]).view(1, 1, 2, 2)
    assert float(discriminator_hinge(real, made)) == pytest.approx(0.5 * (2.5 / 4 + 3.5 / 4))
    assert float(generator_hinge(made)) == pytest.approx(1.5 / 4)
    assert float(discriminator_hinge(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3))) == 1


@pytest.mark.parametrize(
    ("picture", "game", "expected"), [(6.0, 2.0, 3.0), (1.0, 0.0, 1e4), (1e9, 1e-3, 1e4), (0, 1, 0)]
)
def test_the_adaptive_weight_by_hand(picture: float, game: float, expected: float) -> None:
    """Losses whose gradients at the last layer have known norms, as sums over four pictures."""
    last = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    direction = torch.full((3, 4), 12**-0.5, dtype=torch.float64)
    losses = [(last * direction).sum() * size * 4 for size in (picture, game)]
    weight = adaptive_weight(losses[0], losses[1], 4, last)
    wanted = min(picture / (game + 1e-4), 1e4)
    assert float(weight) == pytest.approx(wanted) == pytest.approx(expected, rel=1e-3)
    assert not weight.requires_grad
    losses[0].backward()  # type: ignore[no-untyped-call]  # the graphs are still there


def test_perceptual_distance_by_hand() -> None:
    one = torch.tensor([[3.0, 0.0], [4.0, 2.0]])[None]  # two positions: (3, 4) and (0, 2)
    other = torch.tensor([[4.0, 0.0], [3.0, 5.0]])[None]
    first = (0.6 - 0.8) ** 2 + (0.8 - 0.6) ** 2
    assert float(perceptual_distance([one], [other])) == pytest.approx(first / 2)
    assert float(perceptual_distance([one, one], [other, one])) == pytest.approx(first / 4)
    assert float(perceptual_distance([one], [-one])) == pytest.approx(4)
    assert float(perceptual_distance([one], [7 * one])) == pytest.approx(0, abs=1e-12)


def test_the_distance_of_nothing_has_a_finite_gradient() -> None:
    zeros = torch.zeros(1, 3, 2, requires_grad=True)
    perceptual_distance([zeros], [torch.zeros(1, 3, 2)]).sum().backward()  # type: ignore[no-untyped-call]
    assert zeros.grad is not None and bool(zeros.grad.isfinite().all())


def test_kl_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    theirs = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros_like(mean), 1.0))
    torch.testing.assert_close(standard_normal_kl(mean, log_variance), theirs.flatten(1).sum(1))
    assert float(standard_normal_kl(torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1))) == 0


def test_logit_laplace_is_a_density_over_squeezed_pixels() -> None:
    """It adds up to one over (0, 1), and its median gives the pixel back."""
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)[1:-1]
    share = (x - 0.1) / 0.8
    mu, log_scale = torch.full_like(x, 0.7), torch.full_like(x, math.log(0.4))
    nats = [
        logit_laplace(s.view(1, 1, 1, 1), mu[:1].view(1, 1, 1, 1), log_scale[:1].view(1, 1, 1, 1)) for s in share[:3]
    ]
    density = torch.exp(-logit_laplace(share.view(-1, 1, 1, 1), mu.view(-1, 1, 1, 1), log_scale.view(-1, 1, 1, 1)))
    torch.testing.assert_close(density[:3], torch.exp(-torch.cat(nats)))
    assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-4)
    pixels = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(unsqueezed(torch.logit(squeezed(pixels))), pixels)


def test_the_scale_of_the_likelihood_is_bounded_below() -> None:
    pixels = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    sharp, sharper = (logit_laplace(pixels, torch.zeros_like(pixels), torch.full_like(pixels, s)) for s in (-4.0, -9.0))
    assert float(sharp) == float(sharper) == pytest.approx(math.log(2) - 4 + math.log(0.25))
