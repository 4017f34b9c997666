"""Cached rows by key, and blocks on disk that are whole or refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.data.cached.feature_rows import Block, FeatureRows, block_paths, read_block
from diptych.data.loading.row_filler import Bad

ROWS = np.arange(24, dtype=np.float32).reshape(6, 4)


def write_block(folder: Path, rows: np.ndarray = ROWS, counts: tuple[int, ...] = (1, 3, 2)) -> None:
    data, marker = block_paths(folder, 0)
    np.save(data, rows)
    bad = [{"key": "torn", "reason": "truncated image", "detail": "at byte 7"}]
    marker.write_text(json.dumps({"keys": ["a", "b", "c"], "counts": counts, "bad": bad}))


def test_each_key_has_its_own_rows() -> None:
    rows = FeatureRows([Block(["a", "b"], [1, 3], ROWS[:4]), Block(["c"], [2], ROWS[4:])], "name")
    assert len(rows) == 3 and list(rows) == ["a", "b", "c"] and (rows.width, rows.name) == (4, "name")
    np.testing.assert_array_equal(rows["a"], ROWS[:1])
    np.testing.assert_array_equal(rows["b"], ROWS[1:4])
    np.testing.assert_array_equal(rows["c"], ROWS[4:])


def test_a_choice_goes_round() -> None:
    rows = FeatureRows([Block(["a", "b"], [1, 3], ROWS[:4])])
    for choice in range(9):
        np.testing.assert_array_equal(rows.row("b", choice), ROWS[1 + choice % 3])
        np.testing.assert_array_equal(rows.row("a", choice), ROWS[0])


def test_a_key_without_features_is_a_bad_sample_with_its_reason() -> None:
    bad = [Bad("torn", "truncated image", "at byte 7", 0)]
    rows = FeatureRows([Block(["a", "mute"], [1, 0], ROWS[:1], bad)])
    assert rows.bad == bad
    for key, reason, detail in (
        ("torn", "truncated image", "at byte 7"),
        ("unknown", "no features", "not in the cache"),
        ("mute", "no features", "not in the cache"),
    ):
        with pytest.raises(BadSample) as caught:
            rows.row(key)
        assert (caught.value.key, caught.value.reason, caught.value.detail) == (key, reason, detail)


def test_widths_must_agree_and_rows_must_be() -> None:
    with pytest.raises(DataError, match=r"no rows, or rows of different widths: \[3, 4\]"):
        FeatureRows([Block(["a"], [1], ROWS[:1]), Block(["b"], [1], ROWS[:1, :3])])
    with pytest.raises(DataError, match="has no rows"):
        FeatureRows([])


def test_a_block_comes_back_memory_mapped(tmp_path: Path) -> None:
    write_block(tmp_path)
    block = read_block(tmp_path, 0)
    assert isinstance(block.rows_RD, np.memmap) and list(block.keys) == ["a", "b", "c"]
    np.testing.assert_array_equal(FeatureRows([block])["c"], ROWS[4:])
    assert [(one.key, one.reason, one.detail) for one in block.bad] == [("torn", "truncated image", "at byte 7")]


@pytest.mark.parametrize("damage", ["rows cut", "rows gone", "marker cut", "marker empty", "marker of other keys"])
def test_a_damaged_block_is_refused_by_its_folder(tmp_path: Path, damage: str) -> None:
    write_block(tmp_path)
    data, marker = block_paths(tmp_path, 0)
    if damage == "rows cut":
        data.write_bytes(data.read_bytes()[:-8])
    elif damage == "rows gone":
        data.unlink()
    elif damage == "marker cut":
        marker.write_text(marker.read_text()[:20])
    elif damage == "marker empty":
        marker.write_text("{}")
    else:
        marker.write_text(json.dumps({"keys": ["a"], "counts": [1, 3, 2], "bad": []}))
    with pytest.raises(DataError, match=rf"the feature cache {tmp_path} is damaged .*: delete it to compute it again"):
        read_block(tmp_path, 0)


def test_rows_that_do_not_fit_their_marker_are_refused(tmp_path: Path) -> None:
    write_block(tmp_path, counts=(1, 3, 1))
    with pytest.raises(DataError, match=r"is damaged \(block-00000\.npy has other rows than its marker says"):
        read_block(tmp_path, 0)
