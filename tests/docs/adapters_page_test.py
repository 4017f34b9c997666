"""docs/adapters.md prints what the result file says, and the file is of the grid that it says it is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from diptych.recipes.few_shot import RATES

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "few_shot_page.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("few_shot_page", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = _script()
RESULT = json.loads(page.RESULT.read_text(encoding="utf-8"))


def test_the_page_prints_the_numbers_of_the_result() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text, RESULT) == text, "run `python benchmarks/few_shot_page.py`"


def test_the_result_has_every_method_shot_and_seed() -> None:
    rows = {(row["method"], row["shots"]): row for row in RESULT["rows"]}
    assert set(rows) == {(method, count) for method in RATES for count in (1, 2, 4, 8, 16)}
    assert all(len(row["values"]) == 5 for row in rows.values())
    for row in rows.values():
        assert row["mean"] == pytest.approx(sum(row["values"]) / 5, abs=1e-4)
        assert row["low"] <= row["mean"] <= row["high"]


def test_the_recipes_learning_rates_are_those_that_were_selected() -> None:
    assert {method: one["rate"] for method, one in RESULT["selection"]["methods"].items()} == RATES
