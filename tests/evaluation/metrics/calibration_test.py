"""Reliability by hand, of a calibrated oracle, and of one that is too sure."""

import numpy as np
import pytest

from diptych.evaluation.metrics.calibration import Bin, calibration_error, reliability


def test_by_hand() -> None:
    confidence = np.array([0.05, 0.1, 0.55, 0.6, 0.95, 1.0])
    right = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    found = reliability(confidence, right, bins=10)
    assert [(one.count, one.confidence, one.accuracy) for one in found] == [
        (2, pytest.approx(0.075), 0.5), (2, pytest.approx(0.575), 0.5), (2, pytest.approx(0.975), 1.0),
    ]  # fmt: skip
    assert calibration_error(found) == pytest.approx((2 * 0.425 + 2 * 0.075 + 2 * 0.025) / 6)


def test_the_edges_belong_to_the_lower_bin() -> None:
    found = reliability(np.array([0.0, 0.5, 0.5000001, 1.0]), np.ones(4), bins=2)
    assert [one.count for one in found] == [2, 2]


def test_the_certain_and_right_are_calibrated() -> None:
    assert reliability(np.ones(3), np.ones(3)) == [Bin(3, 1.0, 1.0)]
    assert calibration_error(reliability(np.ones(4), np.array([1.0, 0, 0, 0]))) == 0.75


def test_an_oracle_s_error_vanishes_with_its_number() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 200_000)
    right = (rng.random(200_000) < confidence).astype(float)
    assert calibration_error(reliability(confidence, right)) < 0.006
    too_sure = (rng.random(200_000) < confidence - 0.15).astype(float)
    assert calibration_error(reliability(confidence, too_sure)) == pytest.approx(0.15, abs=0.006)
