"""A few pictures of every class: how many, which, and from which part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.core.errors import ConfigError, DataError
from diptych.data.derived.few_shot import classes_of, shots
from diptych.data.labelled import labelled_parts
from diptych.data.open import open_source

PICTURES = {"cat": 9, "dog": 7, "owl": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in PICTURES.items():
        (tmp_path / "all" / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((8, 8, 3), index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "all" / name / f"{index}.png")
    return tmp_path / "all"


def test_as_many_of_each_class_and_more_shots_keep_those_of_fewer(folder: Path) -> None:
    source = open_source(str(folder))
    before: set[str] = set()
    for count in (1, 2, 5):
        few = shots(source, count, 0)
        assert Counter(few[i].meta["class"] for i in range(len(few))) == dict.fromkeys(PICTURES, count)
        assert before < set(few.keys())
        before = set(few.keys())


def test_the_choice_is_one_of_seed_and_keys(folder: Path) -> None:
    source = open_source(str(folder))
    chosen = {seed: tuple(shots(source, 2, seed).keys()) for seed in range(6)}
    assert len(set(chosen.values())) > 3
    (folder / "cat" / "10.png").write_bytes((folder / "cat" / "1.png").read_bytes())
    kept = [set(shots(open_source(str(folder)), 2, seed).keys()) & set(keys) for seed, keys in chosen.items()]
    assert all(len(some) >= 5 for some in kept), "another picture takes the place of one at most"


def test_parts_by_a_hash_are_disjoint_and_whole(folder: Path) -> None:
    parts = labelled_parts(str(folder), "test", 0.5)
    train, test = set(parts.train.keys()), set(parts.test.keys())
    assert train and test and not train & test and len(train | test) == sum(PICTURES.values())


def test_parts_by_their_names(folder: Path) -> None:
    for split in ("train", "val"):
        (folder / split).mkdir()
    for name in PICTURES:
        (folder / name / "0.png").parent.rename(folder / "train" / name)
        (folder / "val" / name).mkdir()
        (folder / "train" / name / "0.png").rename(folder / "val" / name / "0.png")
    parts = labelled_parts(str(folder), "val", 0.5)
    assert (len(parts.train), len(parts.test)) == (sum(PICTURES.values()) - 3, 3)
    assert list(classes_of(parts.train)) == sorted(PICTURES)


def test_too_few_pictures_and_no_shots_are_refused(folder: Path) -> None:
    source = open_source(str(folder))
    with pytest.raises(DataError, match="has 5 of class 'owl', fewer than 6 shots"):
        shots(source, 6, 0)
    with pytest.raises(ConfigError, match="shots 0"):
        shots(source, 0, 0)
    with pytest.raises(ConfigError, match="test_share 1"):
        labelled_parts(str(folder), "test", 1.0)


def test_data_without_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "0.png")
    with pytest.raises(DataError, match="two or more"):
        classes_of(open_source(str(tmp_path)))
