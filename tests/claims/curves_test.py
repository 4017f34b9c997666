"""A training curve comes to the means of its last quarter and its largest gradient after the first."""

from __future__ import annotations

import pytest
from _curves import CURVES, curve_values


def _line(loss: float, grad_norm: float, stage: str = "train") -> dict[str, object]:
    return {"stage": stage, "loss": loss, "grad_norm": grad_norm}


def test_it_is_the_last_quarter_of_the_named_stage() -> None:
    codes = [_line(99.0, 99.0, "codes")] * 5
    norms = [50.0, 40.0, 1.0, 7.0, 2.0, 1.0, 0.5, 0.7]
    lines = [*codes, *(_line(8.0 - step, norm) for step, norm in enumerate(norms))]
    found = curve_values(lines)
    assert tuple(found) == CURVES
    assert found["training/loss_end"] == pytest.approx((2.0 + 1.0) / 2)
    assert found["training/grad_norm_end"] == pytest.approx(0.6)
    assert found["training/grad_norm_largest"] == 7.0, "the steps in which the rate rises are left out"


def test_a_curve_of_two_lines_has_an_end() -> None:
    found = curve_values([_line(3.0, 2.0), _line(1.0, 4.0)])
    assert list(found.values()) == [1.0, 4.0, 4.0]
