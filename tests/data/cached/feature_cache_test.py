"""The cache of features: computed once, named by all they depend on, never half there."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.core.errors import ConfigError, DataError, StorageError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.data.cached.feature_cache import Extraction, cache_name, cached_features
from diptych.data.cached.feature_rows import FeatureRows


class Numbers:
    """Samples that are a number; those in `bad` cannot be read."""

    name = "numbers"

    def __init__(self, count: int, bad: Sequence[int] = (), edition: int = 0) -> None:
        self.count, self.bad, self.edition = count, set(bad), edition

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise BadSample(f"k{index}", "truncated image", f"number {index}")
        return Sample(f"k{index}", meta={"value": index})

    def keys(self) -> Sequence[str]:
        return [f"k{index}" for index in range(self.count)]

    def fingerprint(self) -> str:
        return f"{self.count} {self.edition}"


class Tower:
    """Encodes a number to `value % 3 + 1` rows (value, row, scale); counts what it was asked."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.asked: list[int] = []
        self.calls = 0

    def prepare(self, sample: Sample) -> int:
        return int(sample.meta["value"])

    def encode(self, items: Sequence[int]) -> list[Any]:
        self.calls += 1
        self.asked += items
        return [np.array([[v, row, self.scale] for row in range(v % 3 + 1)], np.float32) for v in items]

    def extraction(self, weights: str = "w", preprocessing: Any = "p", random: bool = False) -> Extraction[int]:
        return Extraction(weights, preprocessing, self.prepare, self.encode, random)


def check(rows: FeatureRows, numbers: Sequence[int], scale: float = 1.0) -> None:
    assert sorted(rows) == sorted(f"k{n}" for n in numbers)
    for number in numbers:
        expected = [[number, row, scale] for row in range(number % 3 + 1)]
        np.testing.assert_array_equal(rows[f"k{number}"], np.array(expected, np.float32))


def test_a_second_time_nothing_is_read_or_encoded(tmp_path: Path) -> None:
    tower = Tower()
    check(cached_features(tmp_path, Numbers(50), tower.extraction(), block=8), range(50))
    assert sorted(tower.asked) == list(range(50)) and tower.calls == 7

    class Unreadable(Numbers):
        def __getitem__(self, index: int) -> Sample:
            raise AssertionError("read although cached")

    again = Tower()
    rows = cached_features(tmp_path, Unreadable(50), again.extraction(), block=8)
    check(rows, range(50))
    assert again.calls == 0


@pytest.mark.parametrize("change", ["weights", "preprocessing", "source", "dtype", "block"])
def test_whatever_the_rows_depend_on_makes_another_cache(tmp_path: Path, change: str) -> None:
    first = cached_features(tmp_path, Numbers(10), Tower().extraction(), block=4)
    other = Tower(scale=2.0)
    extraction = other.extraction(
        weights="v" if change == "weights" else "w", preprocessing="q" if change == "preprocessing" else "p"
    )
    source = Numbers(10, edition=1 if change == "source" else 0)
    rows = cached_features(
        tmp_path,
        source,
        extraction,
        dtype="float32" if change == "dtype" else "float16",
        block=5 if change == "block" else 4,
    )
    assert sorted(other.asked) == list(range(10)) and rows.name != first.name
    check(rows, range(10), scale=2.0)
    check(cached_features(tmp_path, Numbers(10), Tower(9.0).extraction(), block=4), range(10))  # the first is kept


def test_the_name_is_of_all_values_whatever_their_order() -> None:
    assert cache_name({"a": 1, "b": 2}) == cache_name({"b": 2, "a": 1}) != cache_name({"a": 2, "b": 1})
    assert len(cache_name({})) == 24


@pytest.mark.parametrize(("dtype", "value"), [("float16", 2048.0), ("float32", 2049.0)])
def test_rows_are_kept_in_the_number_format_asked_for(tmp_path: Path, dtype: Any, value: float) -> None:
    rows = cached_features(tmp_path, Numbers(1), Tower(2049.0).extraction(), dtype=dtype)
    assert rows["k0"].dtype == dtype and float(rows["k0"][0, 2]) == value


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 3, 6])
def test_an_interrupted_extraction_continues_where_it_was(tmp_path: Path, at: int) -> None:
    class Dying(Tower):
        def encode(self, items: Sequence[int]) -> list[Any]:
            if self.calls + 1 == at:
                raise Killed
            return super().encode(items)

    with pytest.raises(Killed):
        cached_features(tmp_path, Numbers(50), Dying().extraction(), block=8)
    assert len(list(tmp_path.rglob("block-*.json"))) == at - 1
    tower = Tower()
    check(cached_features(tmp_path, Numbers(50), tower.extraction(), block=8), range(50))
    assert sorted(tower.asked) == list(range((at - 1) * 8, 50))


def test_rows_without_their_marker_are_made_anew(tmp_path: Path) -> None:
    name = cached_features(tmp_path, Numbers(20), Tower().extraction(), block=8).name
    (tmp_path / name / "block-00001.json").unlink()  # killed after the rows, before the marker
    (tmp_path / name / "block-00001.npy").write_bytes(b"half")
    tower = Tower()
    check(cached_features(tmp_path, Numbers(20), tower.extraction(), block=8), range(20))
    assert sorted(tower.asked) == list(range(8, 16))


def test_a_damaged_cache_is_one_sentence(tmp_path: Path) -> None:
    name = cached_features(tmp_path, Numbers(20), Tower().extraction(), block=8).name
    rows = tmp_path / name / "block-00001.npy"
    rows.write_bytes(rows.read_bytes()[:-7])
    with pytest.raises(DataError, match=f"the feature cache {tmp_path / name} is damaged .*: delete it to compute it"):
        cached_features(tmp_path, Numbers(20), Tower().extraction(), block=8)


def test_bad_samples_are_remembered_with_their_reasons(tmp_path: Path) -> None:
    for _ in range(2):
        rows = cached_features(tmp_path, Numbers(100, bad=[3, 97]), Tower().extraction(), block=8)
        check(rows, [n for n in range(100) if n not in (3, 97)])
        assert [(one.key, one.reason) for one in rows.bad] == [("k3", "truncated image"), ("k97", "truncated image")]
        with pytest.raises(BadSample, match="k97: truncated image"):
            rows.row("k97")


def test_a_block_of_nothing_but_bad_samples_is_a_block(tmp_path: Path) -> None:
    rows = cached_features(tmp_path, Numbers(100, bad=[4, 5]), Tower().extraction(), block=2)
    check(rows, [n for n in range(100) if n not in (4, 5)])


def test_too_many_bad_samples_stop_it_before_all_are_encoded(tmp_path: Path) -> None:
    tower = Tower()
    with pytest.raises(DataError, match=r"numbers: \d+ of 100 samples have no features, more than 5%: .*truncated"):
        cached_features(tmp_path, Numbers(100, bad=range(10)), tower.extraction(), block=8)
    assert tower.calls <= 1
    rows = cached_features(tmp_path, Numbers(100, bad=range(10)), tower.extraction(), block=8, bad_threshold=0.1)
    assert len(rows.bad) == 10
    with pytest.raises(DataError, match="10 of 100"):  # also when all of it is in the cache
        cached_features(tmp_path, Numbers(100, bad=range(10)), tower.extraction(), block=8)


def test_random_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be cached: every epoch would see the same draw"):
        cached_features(tmp_path, Numbers(3), Tower().extraction(random=True))
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_tower_or_of_reading_reaches_the_caller(tmp_path: Path) -> None:
    def broken(sample: Sample) -> int:
        raise ZeroDivisionError(sample.key)

    with pytest.raises(ZeroDivisionError, match="k0"):
        cached_features(tmp_path, Numbers(9), replace(Tower().extraction(), prepare=broken))


def test_a_root_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        cached_features(tmp_path / "file", Numbers(3), Tower().extraction())


def in_process(root: Path, start: Any, results: Any) -> None:
    start.wait()
    rows = cached_features(root, Numbers(200), Tower().extraction(), block=8)
    results.put([(key, float(rows[key].sum())) for key in sorted(rows)])


def test_two_processes_at_once_both_get_whole_rows(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    both = [context.Process(target=in_process, args=(tmp_path, start, results)) for _ in range(2)]
    for process in both:
        process.start()
    found = [results.get(timeout=60) for _ in both]
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    rows = cached_features(tmp_path, Numbers(200), Tower().extraction(), block=8)
    check(rows, range(200))
    assert found[0] == found[1] == [(key, float(rows[key].sum())) for key in sorted(rows)]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
