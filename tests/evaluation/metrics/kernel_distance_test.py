"""The kernel distance by loops, by its expectation, and that it has no bias."""

import numpy as np
import pytest

from diptych.evaluation.metrics.kernel_distance import kernel_distances, squared_mmd

RNG = np.random.default_rng(0)


def kernel(x: np.ndarray, y: np.ndarray) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def test_by_loops() -> None:
    first, second = RNG.normal(size=(7, 3)), RNG.normal(1, 1, (5, 3))
    within = np.mean([kernel(a, b) for i, a in enumerate(first) for j, b in enumerate(first) if i != j])
    within += np.mean([kernel(a, b) for i, a in enumerate(second) for j, b in enumerate(second) if i != j])
    between = np.mean([kernel(a, b) for a in first for b in second])
    assert squared_mmd(first, second) == pytest.approx(within - 2 * between, rel=1e-10)


def test_constants_have_a_closed_form() -> None:
    first, second = np.ones((4, 2)), np.zeros((6, 2))
    assert squared_mmd(first, second) == pytest.approx(2**3 + 1 - 2 * 1)


def test_few_vectors_of_one_distribution_are_at_zero_on_average() -> None:
    found = [squared_mmd(RNG.normal(size=(8, 4)), RNG.normal(size=(8, 4))) for _ in range(3000)]
    error = float(np.std(found) / np.sqrt(len(found)))
    assert abs(float(np.mean(found))) < 4 * error
    assert min(found) < 0
    apart = [squared_mmd(RNG.normal(size=(8, 4)), RNG.normal(1, 1, (8, 4))) for _ in range(3000)]
    # E k(x, y) of independent Gaussians: with s = x.y / D, E (s + 1)^3 = 1 + 3 E s + 3 E s^2 + E s^3.
    assert float(np.mean(apart)) == pytest.approx(expected_mmd(), abs=5 * float(np.std(apart) / np.sqrt(3000)))


def expected_mmd() -> float:
    """By a large sample of independent pairs."""
    count, rng = 2_000_000, np.random.default_rng(1)
    x, y = (rng.normal(size=(count, 4)) for _ in range(2))
    one = lambda a, b: float((((a * b).sum(1) / 4 + 1) ** 3).mean())  # noqa: E731
    return one(x, y) + one(x + 1, y + 1) - 2 * one(x, y + 1)


def test_subsets_are_seeded() -> None:
    first, second = RNG.normal(size=(40, 3)), RNG.normal(1, 1, (50, 3))
    found = kernel_distances(first, second, 20, 10, seed=0)
    assert len(found) == 20 and len(set(found)) == 20
    assert kernel_distances(first, second, 20, 10, seed=0) == found != kernel_distances(first, second, 20, 10, seed=1)
    everything = kernel_distances(first, first + 1, 3, 40, seed=0)
    assert everything == pytest.approx([squared_mmd(first, first + 1)] * 3)


def test_one_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="needs two vectors or more"):
        squared_mmd(np.zeros((1, 3)), np.zeros((5, 3)))
