"""The Frechet distance against its closed forms and scipy's matrix square root, and of singular covariances."""

import numpy as np
import pytest
from scipy import linalg

from diptych.evaluation.metrics.frechet import frechet_distance, frechet_of_gaussians

RNG = np.random.default_rng(0)


def covariance(width: int, rank: int = 0) -> np.ndarray:
    factor = RNG.normal(size=(width, rank or width))
    return factor @ factor.T


def test_commuting_gaussians_have_a_closed_form() -> None:
    first, second = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.25])
    means = np.array([1.0, 0, 0]), np.array([0, 2.0, 0])
    expected = 1 + 4 + np.square(np.sqrt(first) - np.sqrt(second)).sum()
    found = frechet_of_gaussians(means[0], np.diag(first), means[1], np.diag(second))
    assert found == pytest.approx(expected, rel=1e-12)
    rotation, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    turned = [rotation @ np.diag(one) @ rotation.T for one in (first, second)]
    again = frechet_of_gaussians(rotation @ means[0], turned[0], rotation @ means[1], turned[1])
    assert again == pytest.approx(expected, rel=1e-12)


def test_any_gaussians_by_scipy() -> None:
    for width in (2, 7, 20):
        first, second = covariance(width), covariance(width)
        means = RNG.normal(size=(2, width))
        root = linalg.sqrtm(first @ second).real
        expected = np.square(means[0] - means[1]).sum() + np.trace(first + second - 2 * root)
        found = frechet_of_gaussians(means[0], first, means[1], second)
        assert found == pytest.approx(expected, rel=1e-8)
        assert frechet_of_gaussians(means[1], second, means[0], first) == pytest.approx(found, rel=1e-9)


def test_of_one_dimension() -> None:
    first, second = RNG.normal(3, 2, (500, 1)), RNG.normal(0, 1, (400, 1))
    expected = (first.mean() - second.mean()) ** 2 + (first.std(ddof=1) - second.std(ddof=1)) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-10)


def test_vectors_give_their_moments() -> None:
    first, second = RNG.normal(size=(50, 4)), RNG.normal(1, 2, (60, 4))
    moments = [(one.mean(0), np.cov(one, rowvar=False)) for one in (first, second)]
    assert frechet_distance(first, second) == pytest.approx(frechet_of_gaussians(*moments[0], *moments[1]))


def test_fewer_vectors_than_dimensions() -> None:
    vectors = RNG.normal(size=(5, 30))
    assert frechet_distance(vectors, vectors) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(vectors, vectors + 2) == pytest.approx(4 * 30, rel=1e-6)
    few, many = (frechet_distance(RNG.normal(size=(n, 10)), RNG.normal(size=(n, 10))) for n in (20, 2000))
    assert few > 20 * many  # the bias that the benchmark warns of


def test_one_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="needs two vectors or more"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
