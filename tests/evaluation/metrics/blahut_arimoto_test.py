"""Rate-distortion functions and capacities against closed forms and against every channel of a grid."""

import itertools

import numpy as np
import pytest

from diptych.core.errors import ConfigError, DataError
from diptych.evaluation.metrics.blahut_arimoto import (
    binary_rate,
    channel_capacity,
    gaussian_rate,
    rate_distortion,
    rate_distortion_curve,
)
from diptych.evaluation.metrics.discrete_information import entropy, mutual_information, through_channel

HAMMING = 1 - np.eye(2)
BETAS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@pytest.mark.parametrize("p", [0.5, 0.3, 0.1, 0.02])
def test_a_coin_has_the_closed_form(p: float) -> None:
    for point in rate_distortion_curve([1 - p, p], HAMMING, BETAS, 1e-9):
        assert point.rate == pytest.approx(binary_rate(p, point.distortion), abs=1e-6)


def test_the_slope_is_beta() -> None:
    # R'(D) = log2(D / (1 - D)) for a fair coin, so a price of beta bits buys D = 1 / (1 + 2^beta).
    for point in rate_distortion_curve([0.5, 0.5], HAMMING, BETAS):
        assert point.distortion == pytest.approx(1 / (1 + 2**point.beta), abs=1e-9)


def test_a_fine_grid_of_a_gaussian_has_its_closed_form() -> None:
    x = np.linspace(-4.5, 4.5, 121)
    source = np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum()
    for point in rate_distortion_curve(source, (x[:, None] - x) ** 2, (1.5, 4.0, 10.0), 1e-4):
        assert point.distortion < 0.5
        assert point.rate == pytest.approx(gaussian_rate(1.0, point.distortion), abs=2e-3)


def test_no_channel_of_a_grid_is_better() -> None:
    source = np.array([0.6, 0.4])
    cost = np.array([[0.0, 1.0, 0.3], [2.0, 0.0, 0.4]])
    grid = [np.array(row) / 12 for row in itertools.product(range(13), repeat=3) if sum(row) == 12]
    for beta in (0.5, 1.5, 4.0):
        found = rate_distortion(source, cost, beta)
        assert found.rate == pytest.approx(mutual_information(through_channel(source, found.channel_XY)), abs=1e-9)
        least = found.rate + beta * found.distortion
        others = []
        for first, second in itertools.product(grid, repeat=2):
            joint = through_channel(source, np.stack([first, second]))
            others.append(mutual_information(joint) + beta * (joint * cost).sum())
        assert least <= min(others) + 1e-6
        assert least == pytest.approx(min(others), abs=0.02)


def test_the_curve_falls_and_ends_at_the_entropy_and_at_nothing() -> None:
    source = np.array([0.5, 0.25, 0.125, 0.125, 0.0])
    points = rate_distortion_curve(source, 1 - np.eye(5), (0.0, *BETAS, 60.0))
    rates, distortions = [p.rate for p in points], [p.distortion for p in points]
    assert rates == sorted(rates) and distortions == sorted(distortions, reverse=True)
    assert rates[0] == pytest.approx(0.0, abs=1e-9)
    assert rates[-1] == pytest.approx(entropy(source), abs=1e-6) and distortions[-1] == pytest.approx(0.0, abs=1e-9)


def test_capacities_have_their_closed_forms() -> None:
    e = 0.11
    capacity, inputs = channel_capacity([[1 - e, e], [e, 1 - e]])
    assert capacity == pytest.approx(1 - entropy([e, 1 - e]), abs=1e-8) and inputs == pytest.approx([0.5, 0.5])
    erased, _ = channel_capacity([[1 - e, e, 0.0], [0.0, e, 1 - e]])
    assert erased == pytest.approx(1 - e, abs=1e-8)
    # The Z channel: log2(1 + (1 - e) e^(e / (1 - e))).
    z, inputs = channel_capacity([[1.0, 0.0], [e, 1 - e]])
    assert z == pytest.approx(np.log2(1 + (1 - e) * e ** (e / (1 - e))), abs=1e-8) and inputs[0] > 0.5
    assert channel_capacity([[0.3, 0.7], [0.3, 0.7]])[0] == pytest.approx(0.0, abs=1e-9)


def test_gaussians_fill_with_water() -> None:
    assert gaussian_rate(4.0, 1.0) == pytest.approx(1.0)
    assert gaussian_rate(4.0, 4.0) == 0.0
    assert gaussian_rate([4.0, 4.0], 2.0) == pytest.approx(2.0)
    # A level of 1: the smallest component is under water and gives its whole variance.
    assert gaussian_rate([16.0, 4.0, 0.5], 2.5) == pytest.approx(2.0 + 1.0)
    generator = np.random.default_rng(0)
    for _ in range(20):
        sizes = generator.exponential(size=2)
        goal = generator.uniform(0.05, 0.95) * sizes.sum()
        first = np.linspace(max(goal - sizes[1], 0), min(goal, sizes[0]), 4001)[1:-1]
        rates = 0.5 * np.log2(sizes[0] / first) + 0.5 * np.log2(sizes[1] / (goal - first))
        assert gaussian_rate(sizes, goal) == pytest.approx(rates.min(), abs=2e-3)


def test_bad_input_is_a_sentence() -> None:
    with pytest.raises(DataError, match="the source sums to 0"):
        rate_distortion([0.5, 0.4], HAMMING, 1.0)
    with pytest.raises(DataError, match=r"a table of 2 rows; got the shape \(3, 3\)"):
        rate_distortion([0.5, 0.5], np.eye(3), 1.0)
    with pytest.raises(DataError, match="finite and not negative"):
        rate_distortion([0.5, 0.5], -HAMMING, 1.0)
    with pytest.raises(ConfigError, match="cannot be -1"):
        rate_distortion([0.5, 0.5], HAMMING, -1.0)
    with pytest.raises(DataError, match="a distortion is positive"):
        gaussian_rate(1.0, 0.0)
    with pytest.raises(DataError, match="shares between 0 and 1"):
        binary_rate(1.2, 0.1)
