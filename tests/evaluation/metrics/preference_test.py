"""Preferences against enumeration of random tie-breaks, and the published Winoground scoring."""

from itertools import permutations, product

import numpy as np
import pytest

from diptych.evaluation.metrics.preference import expected_win, strict_win, tied, winoground, winoground_expected

COMBINATIONS = list(product((0.0, 1.0, 2.0), repeat=4))


@pytest.mark.parametrize(
    ("right", "wrong", "strict", "expected", "ties"),
    [
        (2.0, [1.0], 1.0, 1.0, 0.0),
        (1.0, [2.0], 0.0, 0.0, 0.0),
        (1.0, [1.0], 0.0, 1 / 2, 1.0),
        (1.0, [1.0, 0.0, 1.0, 0.0], 0.0, 1 / 3, 1.0),
        (1.0, [1.0] * 4, 0.0, 1 / 5, 1.0),
        (1.0, [1.0, 2.0], 0.0, 0.0, 0.0),
    ],
)
def test_one_right_against_some_wrong(
    right: float, wrong: list[float], strict: float, expected: float, ties: float
) -> None:
    assert (strict_win(right, wrong), expected_win(right, wrong), tied(right, wrong)) == (strict, expected, ties)


def published(c0_i0: float, c0_i1: float, c1_i0: float, c1_i1: float) -> dict[str, float]:
    """As the authors' evaluation has it, with strict comparisons."""
    text = c0_i0 > c1_i0 and c1_i1 > c0_i1
    image = c0_i0 > c0_i1 and c1_i1 > c1_i0
    return {"text": float(text), "image": float(image), "group": float(image and text)}


@pytest.mark.parametrize("flat", COMBINATIONS)
def test_winoground_is_scored_as_published(flat: tuple[float, ...]) -> None:
    assert winoground([flat[:2], flat[2:]]) == published(*flat)


def test_expected_winoground_is_the_mean_of_random_tie_breaks() -> None:
    rng = np.random.default_rng(0)
    for flat in ((0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0)):
        noise = 1e-3 * rng.normal(size=(6_000, 4))
        drawn = [published(*row) for row in (np.array(flat) + noise).tolist()]
        for name, value in winoground_expected([flat[:2], flat[2:]]).items():
            assert value == pytest.approx(np.mean([one[name] for one in drawn]), abs=0.025), (flat, name)


def test_expected_winoground_in_closed_form() -> None:
    constant = winoground_expected([[0.0, 0.0], [0.0, 0.0]])
    assert constant == pytest.approx({"text": 1 / 4, "image": 1 / 4, "group": 1 / 6})
    # A model blind to the pictures gives each caption one score: never both texts, both images only by luck.
    blind = winoground_expected([[1.0, 1.0], [0.0, 0.0]])
    assert blind == pytest.approx({"text": 0.0, "image": 1 / 4, "group": 0.0})
    for flat in permutations((0.0, 1.0, 2.0, 3.0)):
        assert winoground_expected([flat[:2], flat[2:]]) == published(*flat)  # no ties: nothing to expect
