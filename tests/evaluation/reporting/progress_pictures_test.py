"""What a model made, step after step: which steps are shown, and what a row holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diptych.core.errors import DataError
from diptych.evaluation.reporting.progress_pictures import STEPS, progress, read_pictures

PNG = "data:image/png;base64,"


def rows(step: int, keys: tuple[str, ...] = ("a", "b")) -> list[dict[str, Any]]:
    true = {"title": "a red circle", "png": f"{PNG}true"}
    return [{"key": key, "images": [true, {"title": "made", "png": f"{PNG}{key}{step}"}]} for key in keys]


def left(folder: Path, stage: str, step: int, keys: tuple[str, ...] = ("a", "b")) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{stage}-{step:08d}.json").write_text(json.dumps(rows(step, keys)))


def test_a_row_is_what_stays_the_same_then_what_was_made_at_each_step(tmp_path: Path) -> None:
    for step in (5, 10):
        left(tmp_path / "pictures", "base", step)
    (stage,) = progress(read_pictures(tmp_path / "pictures"))
    first, second = stage.rows
    assert stage.stage == "base" and (first.key, second.key) == ("a", "b")
    assert [one.title for one in first.pictures] == ["a red circle", "step 5", "step 10"]
    assert [one.address for one in second.pictures] == [f"{PNG}true", f"{PNG}b5", f"{PNG}b10"]


def test_of_many_steps_the_first_the_last_and_some_between(tmp_path: Path) -> None:
    for step in range(1, 12):
        left(tmp_path / "pictures", "train", step)
    (stage,) = progress(read_pictures(tmp_path / "pictures"))
    titles = [one.title for one in stage.rows[0].pictures][1:]
    assert titles == [f"step {step}" for step in (1, 3, 5, 7, 9, 11)] and len(titles) == STEPS


def test_stages_apart_and_a_sample_that_one_step_lacks_has_a_shorter_row(tmp_path: Path) -> None:
    left(tmp_path / "pictures", "base", 5, ("a",))
    left(tmp_path / "pictures", "base", 10)
    left(tmp_path / "pictures", "up-scale", 3)
    (tmp_path / "pictures" / "notes.json").write_text("not ours")
    base, up = progress(read_pictures(tmp_path / "pictures"))
    assert [len(row.pictures) for row in base.rows] == [3, 2] and up.stage == "up-scale"
    assert read_pictures(tmp_path / "nowhere") == {} and progress({}) == []


def test_a_file_that_was_cut_is_named(tmp_path: Path) -> None:
    left(tmp_path / "pictures", "base", 5)
    (tmp_path / "pictures" / "base-00000005.json").write_text('[{"key"')
    with pytest.raises(DataError, match=r"base-00000005\.json is truncated"):
        read_pictures(tmp_path / "pictures")
