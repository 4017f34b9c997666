"""Splits told apart by names, keys in references, IDX files as they are published, class folders."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.core.errors import ConfigError, DataError
from diptych.data.open import has_training_split, open_source
from diptych.data.split_names import of_split


def write_idx(folder: Path, prefix: str, count: int, value: int, packed: bool = True) -> None:
    """Pictures of one grey value, 2 by 3; labels 0, 1, 0, 1 ..."""
    pixels = struct.pack(">4I", 0x803, count, 2, 3) + bytes([value]) * (count * 6)
    labels = struct.pack(">2I", 0x801, count) + bytes(i % 2 for i in range(count))
    for kind, data in (("images-idx3", pixels), ("labels-idx1", labels)):
        name = f"{prefix}-{kind}-ubyte"
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_under_their_published_names(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, "train", 5, 7, packed)
    write_idx(tmp_path, "t10k", 3, 200, packed)
    test = open_source(str(tmp_path), "test")
    assert list(test.keys()) == ["t10k-00000", "t10k-00001", "t10k-00002"]
    sample = test[1]
    assert sample.image.pixels_HWC is not None
    assert sample.image.pixels_HWC.shape == (2, 3, 3) and (sample.image.pixels_HWC == 200).all()
    assert sample.meta["class"] == "1"
    both = open_source(str(tmp_path))
    assert len(both) == 8 and both[7].image.pixels_HWC is not None and both[7].image.pixels_HWC[0, 0, 0] == 7
    assert has_training_split(str(tmp_path), "test") and not has_training_split(str(tmp_path), "train")


def test_idx_with_too_few_class_names(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 4, 0)
    (tmp_path / "classes.json").write_text('["shirt"]')
    with pytest.raises(DataError, match="names 1 classes, but label 1 occurs"):
        open_source(str(tmp_path))


def test_folders_named_for_splits(tmp_path: Path) -> None:
    for path in ("train/cat/a.png", "train/dog/a.png", "val/cat/a.png"):
        write_picture(tmp_path / path)
    assert list(open_source(str(tmp_path), "val").keys()) == ["val/cat/a.png"]
    train = open_source(str(tmp_path), "train")
    assert [train[i].meta["class"] for i in range(2)] == ["cat", "dog"]
    assert len(open_source(str(tmp_path))) == 3
    with pytest.raises(DataError, match="no split 'test': its files are of train, val"):
        open_source(str(tmp_path), "test")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for path in ("train/a.png", "car/a.png"):
        write_picture(tmp_path / path)
    source = open_source(str(tmp_path), "test")
    assert [source[i].meta["class"] for i in range(2)] == ["car", "train"]
    assert not has_training_split(str(tmp_path), "test")


def test_a_split_is_a_word_of_the_name() -> None:
    names = ["x/constrained-0.tar", "x/part-validation-0.tar", "x/part-test-0.tar"]
    assert of_split(names, "val", "x") == names[1:2]
    with pytest.raises(DataError, match="no split 'train'"):
        of_split(names, "train", "x")


def test_keys_name_a_part_of_any_source(tmp_path: Path) -> None:
    for path in ("cat/a.png", "cat/b.png", "dog/c.png"):
        write_picture(tmp_path / "pictures" / path)
    lists = tmp_path / "keys.txt.gz"
    lists.write_bytes(gzip.compress(b"# two of three\ndog/c.png\n\ncat/a.png\n"))
    source = open_source(f"{tmp_path / 'pictures'}?keys={lists}")
    assert list(source.keys()) == ["dog/c.png", "cat/a.png"] and source[0].meta["class"] == "dog"
    (tmp_path / "scenes.txt").write_text("scene-test-00000003\n")
    scenes = open_source(f"scenes?objects=1&keys={tmp_path / 'scenes.txt'}", "test")
    whole = open_source("scenes?objects=1", "test")
    assert len(scenes) == 1 and scenes[0].texts == whole[3].texts


def test_what_is_wrong_with_keys_is_said(tmp_path: Path) -> None:
    write_picture(tmp_path / "cat" / "a.png")
    with pytest.raises(DataError, match="no file of keys at"):
        open_source(f"{tmp_path}?keys={tmp_path}/none.txt")
    (tmp_path / "keys.txt").write_text("cat/a.png\ncat/z.png\n")
    with pytest.raises(DataError, match=r"no sample 'cat/z.png' \(1 of 2 keys are unknown\)"):
        open_source(f"{tmp_path}?keys={tmp_path}/keys.txt")
    (tmp_path / "broken.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="is no file of keys"):
        open_source(f"{tmp_path}?keys={tmp_path}/broken.gz")
    with pytest.raises(ConfigError, match="did you mean 'keys'"):
        open_source(f"{tmp_path}?key=x")
