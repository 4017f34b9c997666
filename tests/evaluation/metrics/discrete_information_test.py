"""Entropies of tables by loops, and the identities that hold for every joint distribution."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.core.errors import DataError
from diptych.evaluation.metrics.discrete_information import (
    conditional_entropy,
    entropy,
    mutual_information,
    through_channel,
)


def by_loops(joint: list[list[float]]) -> tuple[float, float, float]:
    """H(X, Y), H(Y | X) and I(X; Y) from their definitions."""
    rows = [sum(row) for row in joint]
    columns = [sum(column) for column in zip(*joint, strict=True)]
    together = given_row = shared = 0.0
    for i, row in enumerate(joint):
        for j, p in enumerate(row):
            if p > 0:
                together -= p * math.log2(p)
                given_row -= p * math.log2(p / rows[i])
                shared += p * math.log2(p / (rows[i] * columns[j]))
    return together, given_row, shared


@st.composite
def tables(draw: st.DrawFn, rows: int | None = None) -> np.ndarray:
    """Joint distributions of every small shape, some cells zero."""
    shape = (rows or draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    count = shape[0] * shape[1]
    counts = draw(st.lists(st.integers(0, 50), min_size=count, max_size=count).filter(any))
    table = np.array(counts, np.float64).reshape(shape)
    return table / table.sum()


def random_channel(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(columns, 0.5), rows)


def test_known_values() -> None:
    assert entropy([0.5, 0.5]) == 1.0
    assert entropy(np.full(8, 1 / 8)) == 3.0
    assert entropy([1.0, 0.0]) == 0.0
    assert entropy([0.9, 0.1]) == pytest.approx(0.4689955935892812, abs=1e-12)
    assert mutual_information(np.eye(4) / 4) == pytest.approx(2.0, abs=1e-12)
    assert conditional_entropy(np.eye(4) / 4) == 0.0
    assert mutual_information(np.outer([0.3, 0.7], [0.2, 0.5, 0.3])) == pytest.approx(0.0, abs=1e-12)
    # A binary symmetric channel that errs in a tenth of the cases carries 1 - H(0.1).
    assert mutual_information(through_channel([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]])) == pytest.approx(
        1 - 0.4689955935892812, abs=1e-12
    )


@settings(deadline=None)
@given(tables())
def test_equal_to_loops_over_the_definitions(joint: np.ndarray) -> None:
    together, given_row, shared = by_loops(joint.tolist())
    assert entropy(joint) == pytest.approx(together, abs=1e-9)
    assert conditional_entropy(joint) == pytest.approx(given_row, abs=1e-9)
    assert mutual_information(joint) == pytest.approx(shared, abs=1e-9)


@settings(deadline=None)
@given(tables())
def test_identities_and_bounds(joint: np.ndarray) -> None:
    row, column = joint.sum(1), joint.sum(0)
    shared = mutual_information(joint)
    assert entropy(joint) == pytest.approx(entropy(row) + conditional_entropy(joint), abs=1e-9)
    assert shared == pytest.approx(entropy(row) + entropy(column) - entropy(joint), abs=1e-9)
    assert shared == pytest.approx(entropy(column) - conditional_entropy(joint), abs=1e-9)
    assert shared == pytest.approx(mutual_information(joint.T), abs=1e-9)
    assert 0 <= shared <= min(entropy(row), entropy(column)) + 1e-9
    assert conditional_entropy(joint) <= entropy(column) + 1e-9


@settings(deadline=None)
@given(tables(), st.integers(1, 5), st.integers(0, 1000))
def test_processing_never_adds_information(joint: np.ndarray, outputs: int, seed: int) -> None:
    processed = joint @ random_channel(joint.shape[1], outputs, seed)
    assert mutual_information(processed) <= mutual_information(joint) + 1e-9


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ([], "is empty"),
        ([0.5, 0.6], r"sums to 1\.1, not to 1: divide counts by their sum"),
        ([1.5, -0.5], "negative or not finite"),
        ([float("nan"), 1.0], "negative or not finite"),
        ([0.0, 0.0], "sums to 0, not to 1"),
        ([[0.5], [0.2, 0.3]], "not a table of probabilities"),
    ],
)
def test_what_is_no_distribution_is_refused(table: list[float], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        entropy(table)


def test_a_vector_is_no_joint_and_a_channel_fits_its_source() -> None:
    with pytest.raises(DataError, match=r"table \[X, Y\]; got the shape \(2,\)"):
        mutual_information([0.5, 0.5])
    with pytest.raises(DataError, match=r"rows p\(y \| x\), 2; got a table of the shape \(3, 3\)"):
        through_channel([0.5, 0.5], np.eye(3))
    with pytest.raises(DataError, match=r"row 1 of the channel sums to 0\.9"):
        through_channel([0.5, 0.5], [[1.0, 0.0], [0.5, 0.4]])
