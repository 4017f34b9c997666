"""The committed lists of keys are those that the script makes, and probes part the data as they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from diptych.data.derived.subset import read_keys
from diptych.data.open import open_source

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COUNTS = {"caltech101": 2_020, "fashion_mnist": 10_000}


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_key_lists", BENCHMARKS / "make_key_lists.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", COUNTS)
def test_committed_parts_are_disjoint_and_in_the_share(name: str) -> None:
    train, test = (read_keys(BENCHMARKS / "keys" / f"{name}-{part}.txt") for part in ("train", "test"))
    assert len(set(train) | set(test)) == len(train) + len(test) == COUNTS[name]
    # five standard errors of a binomial share
    assert abs(len(test) / COUNTS[name] - 0.3) < 5 * (0.3 * 0.7 / COUNTS[name]) ** 0.5


@pytest.mark.parametrize("name", COUNTS)
def test_regenerated_lists_are_the_committed_ones(name: str, shared_data: Path) -> None:
    for part, text in _script().key_lists(open_source(str(shared_data / name))).items():
        assert text == (BENCHMARKS / "keys" / f"{name}-{part}.txt").read_text(encoding="utf-8")


def test_flowers5_has_a_split_of_its_own(shared_data: Path) -> None:
    parts = {split: set(open_source(str(shared_data / "flowers5"), split).keys()) for split in ("train", "val")}
    assert {split: len(keys) for split, keys in parts.items()} == {"train": 2_934, "val": 736}
    assert not parts["train"] & parts["val"]
