"""Rate-distortion curves of vectors against closed forms: Gaussians, lumps, vectors that say nothing."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError, DataError
from diptych.evaluation.metrics.blahut_arimoto import gaussian_rate, rate_distortion
from diptych.evaluation.metrics.representation_rate import (
    CurvePoint,
    Distortion,
    Fitting,
    Pairs,
    rate_distortion_curve,
)
from diptych.evaluation.metrics.transform import principal_axes

SCALAR_GAP = 0.5 * math.log2(2 * math.pi * math.e / 12)
"""0.2546 bits: what rounding each number by itself loses against R(D) at small steps, whatever the density."""
VARIANCES = torch.tensor([4.0, 1.0, 0.25, 0.05])


def gaussian_pairs(number: int, seed: int) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    image_ND = torch.randn(number, 4, generator=generator) * VARIANCES.sqrt() + 3.0
    return Pairs(image_ND, image_ND + 0.5 * torch.randn(number, 4, generator=generator))


def curve(pairs: Pairs, betas: tuple[float, ...], kind: Distortion, **options: int) -> list[CurvePoint]:
    half = len(pairs.image_ND) // 2
    fit = Pairs(pairs.image_ND[:half], pairs.text_ND[:half])
    test = Pairs(pairs.image_ND[half:], pairs.text_ND[half:])
    return rate_distortion_curve(fit, test, betas, kind, Fitting(**options))


@pytest.fixture(scope="module")
def gaussian_curve() -> list[CurvePoint]:
    return curve(gaussian_pairs(4000, 0), (0.5, 3.0, 10.0, 30.0, 100.0, 1000.0), "error", batch=256, steps=300)


def gap(point: CurvePoint) -> float:
    """Bits above the R(D) of Gaussians of the variances that were measured."""
    image_ND = gaussian_pairs(4000, 0).image_ND
    distortion = point.distortion * principal_axes(image_ND[:2000], 4).variance
    return point.rate - gaussian_rate(image_ND[2000:].var(0, correction=0).numpy(), distortion)


def test_a_gaussian_lies_just_above_its_closed_form(gaussian_curve: list[CurvePoint]) -> None:
    """No point below R(D), none more than rounding's 0.2546 bits for each of the four channels above it."""
    assert all(-0.02 < gap(point) < 4 * SCALAR_GAP + 0.05 for point in gaussian_curve)


def test_at_small_steps_the_gap_is_that_of_rounding(gaussian_curve: list[CurvePoint]) -> None:
    assert gap(gaussian_curve[-1]) == pytest.approx(4 * SCALAR_GAP, abs=0.05)


def test_the_curve_is_monotone_and_begins_with_nothing(gaussian_curve: list[CurvePoint]) -> None:
    assert gaussian_curve[0].rate == pytest.approx(0.0, abs=0.01)
    assert gaussian_curve[0].distortion == pytest.approx(1.0, abs=0.06)
    for coarse, fine in itertools.pairwise(gaussian_curve):
        assert fine.rate > coarse.rate and fine.distortion < coarse.distortion


def test_one_gaussian_is_near_blahut_arimoto() -> None:
    """Of the same slope: rate + beta * distortion within what rounding loses of the least that any code attains."""
    generator = torch.Generator().manual_seed(3)
    image_ND = torch.randn(6000, 1, generator=generator)
    x = torch.linspace(-4.5, 4.5, 121, dtype=torch.float64).numpy()
    source = torch.distributions.Normal(0, 1).log_prob(torch.tensor(x)).softmax(0).numpy()
    for point in curve(Pairs(image_ND, image_ND), (2.0, 8.0, 32.0), "error", batch=512, steps=300):
        best = rate_distortion(source, (x[:, None] - x) ** 2, point.beta, 1e-3)
        excess = point.rate + point.beta * point.distortion - best.rate - best.beta * best.distortion
        assert -0.08 < excess < SCALAR_GAP + 0.08


def binary_pairs(number: int, error: float, seed: int) -> Pairs:
    """A vector is one of two, a text repeats it and errs in some of the cases."""
    generator = torch.Generator().manual_seed(seed)
    sign_N = 1 - 2 * (torch.rand(number, generator=generator) < 0.5).float()
    flip_N = 1 - 2 * (torch.rand(number, generator=generator) < error).float()
    zeros_N = torch.zeros(number)
    return Pairs(torch.stack([sign_N, zeros_N], 1), torch.stack([sign_N * flip_N, zeros_N], 1))


def test_one_bit_is_the_rate_of_two_vectors_and_buys_what_the_text_shares() -> None:
    error = 0.1
    shared = 1 + error * math.log2(error) + (1 - error) * math.log2(1 - error)  # 0.531 bits
    nothing, everything = curve(binary_pairs(4000, error, 0), (0.5, 16.0), "text", batch=128, steps=300)
    assert nothing.rate < 0.05 and nothing.distortion == pytest.approx(7.0, abs=0.02)
    assert everything.rate == pytest.approx(1.0, abs=0.05)
    assert everything.distortion == pytest.approx(7.0 - shared, abs=0.06)


def test_a_bit_of_rate_takes_away_one_bit_of_uncertainty_at_most() -> None:
    points = curve(unit_pairs(1200, 0), (2.0, 4.0, 8.0, 32.0), "text", batch=64, steps=200)
    for coarse, fine in itertools.pairwise(points):
        assert fine.rate > coarse.rate and fine.distortion < coarse.distortion + 0.02
    assert all(point.distortion > math.log2(64) - point.rate - 0.05 for point in points)
    assert points[-1].distortion < 3.0


def unit_pairs(number: int, seed: int) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    base_ND = torch.randn(number, 16, generator=generator) * torch.linspace(1.0, 0.2, 16)
    noisy_ND = base_ND + 0.3 * torch.randn(number, 16, generator=generator)
    return Pairs(torch.nn.functional.normalize(base_ND, dim=1), torch.nn.functional.normalize(noisy_ND, dim=1))


def test_texts_of_other_pictures_buy_nothing() -> None:
    pairs = unit_pairs(4000, 1)
    shuffled = Pairs(pairs.image_ND, pairs.text_ND[torch.randperm(4000, generator=torch.Generator().manual_seed(2))])
    for point in curve(shuffled, (2.0, 16.0), "text", batch=64, steps=200):
        assert point.distortion > math.log2(64) - 0.02


def test_it_is_a_function_of_its_input() -> None:
    options = {"batch": 64, "steps": 20}
    first = curve(unit_pairs(300, 2), (4.0,), "text", **options)
    assert curve(unit_pairs(300, 2), (4.0,), "text", **options) == first
    torch.manual_seed(7)
    assert curve(unit_pairs(300, 2), (4.0,), "text", **options) == first
    # Every beta has a code of its own: others beside it change nothing but the noise that it gets.
    assert curve(unit_pairs(300, 2), (4.0,), "error", **options) != first


def test_vectors_that_are_all_the_same_take_no_bits() -> None:
    same = torch.ones(200, 5)
    (point,) = curve(Pairs(same, same), (8.0,), "text", batch=32, steps=10)
    assert point.rate == 0.0 and point.distortion == pytest.approx(5.0, abs=1e-5)
    (point,) = curve(Pairs(same, same), (8.0,), "error", batch=32, steps=10)
    assert point == CurvePoint(8.0, 0.0, 0.0)


def test_bad_input_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="betas above 0"):
        curve(unit_pairs(200, 0), (), "text", batch=32)
    with pytest.raises(ConfigError, match="betas above 0"):
        curve(unit_pairs(200, 0), (1.0, 0.0), "text", batch=32)
    with pytest.raises(DataError, match="100 pairs to fit and 100 to measure do not fill a batch of 128"):
        curve(unit_pairs(200, 0), (1.0,), "text", batch=128)


def products(axes_of: Tensor, z_ND: Tensor, text_MD: Tensor, most: int) -> tuple[Tensor, Tensor]:
    axes = principal_axes(axes_of, most)
    direction_MC, offset_M = axes.of_texts(text_MD)
    return axes.coordinates(z_ND) @ direction_MC.T + offset_M, z_ND @ text_MD.T


def test_axes_keep_products_and_lengths() -> None:
    z_ND = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) + 1
    text_MD = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    coded, plain = products(z_ND, z_ND, text_MD, most=6)
    assert torch.allclose(coded, plain, atol=1e-12)
    axes = principal_axes(z_ND, 2)
    coordinates_NC = axes.coordinates(z_ND)
    assert torch.allclose(coordinates_NC.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(coordinates_NC.square().mean(0), torch.ones(2, dtype=torch.float64), atol=1e-12)
    assert axes.variance == pytest.approx(float((z_ND - z_ND.mean(0)).square().sum(1).mean()), abs=1e-12)
    assert float(axes.lost(z_ND).mean()) == pytest.approx(axes.rest, abs=1e-12)
    assert len(principal_axes(torch.ones(5, 3), 2).deviation_C) == 0
