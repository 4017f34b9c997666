"""Data with splits are used as they are; of others a part is held out once, and kept."""

from pathlib import Path

import pytest
from PIL import Image

from diptych.core.errors import DataError
from diptych.data.open import open_source
from diptych.study.config import StudyBudget, StudyConfig
from diptych.study.held_out_part import told, with_test_part


def study(data: str) -> StudyConfig:
    return StudyConfig(("clip_tiny",), data, StudyBudget(samples=64))


def draw(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(folder / f"{i}.png")


def test_splits_that_are_there_are_used(tmp_path: Path) -> None:
    for part in ("train", "test"):
        draw(tmp_path / part / "cat", 2)
    for config in (study(str(tmp_path)), study("scenes?objects=1")):
        assert with_test_part(config, tmp_path / "out") == config and told(config) == ""


def test_a_part_is_held_out_once_and_kept_when_pictures_come(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "cat", 10)
    config = with_test_part(study(str(tmp_path / "data")), tmp_path / "out")
    assert told(config) == "2 of 10 pictures; 0 records could not be read"
    test = list(open_source(config.reference, "test").keys())
    draw(tmp_path / "data" / "dog", 10)
    again = with_test_part(study(str(tmp_path / "data")), tmp_path / "out")
    assert again == config and list(open_source(again.reference, "test").keys()) == test
    assert len(open_source(again.reference, "train")) == 18


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        with_test_part(study(str(tmp_path / "data")), tmp_path)
