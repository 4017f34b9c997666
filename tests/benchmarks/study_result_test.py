"""What benchmarks/study.py commits: the page's table, and a definition that is the demo's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_study", BENCHMARKS / "study.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_says_every_number_with_its_interval_and_the_costs(script: ModuleType) -> None:
    metric = {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.01, "n": 5, "unit": "share"}
    cells = {"clip_tiny": {"metric": metric}, "coca_tiny": {"metric": None}}
    record = {
        "study": {"recipes": ["clip_tiny", "coca_tiny"]},
        "rows": [{"ability": "Retrieval", "title": "R@1", "chance": 0.01, "cells": cells}],
        "costs": {"clip_tiny": {"flops": 2e12, "earlier_flops": 1e12, "seconds": 10.0, "earlier_seconds": 0.0}},
    }
    page = "before\n<!-- table: by benchmarks/study.py -->\nold\n<!-- end of the table -->\nafter\n"
    lines = script.filled(page, record).splitlines()
    assert lines[0] == "before" and lines[-1] == "after" and "old" not in lines
    assert lines[2] == "| | contrastive, `clip_tiny` | generative, `coca_tiny` | chance |"
    assert lines[4].startswith("| Retrieval: R@1 | 50.0 % [40.0, 60.0] | ") and lines[4].endswith("| 1.0 % |")
    assert lines[5].startswith("| training, TFLOPs + before | 2 + 1 | ")
    new = script.filled("before\n", record)
    assert new.startswith("before\n\n## ") and script.filled(new, record) == new
    assert new[new.index("<!--") :] == "\n".join(lines[1:-1]) + "\n"
