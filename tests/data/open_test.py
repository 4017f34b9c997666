"""`open_source`: what a reference names, what keys of a list select, and what is said of a wrong one."""

import io
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import PIL.Image
import pytest

from diptych.core.errors import ConfigError, DataError
from diptych.data.open import open_source
from diptych.recipes._pairs import report_on, split_data


def picture() -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name in names:
            for ending, data in (("png", picture()), ("txt", f"a caption of {name}".encode())):
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Tars of three splits."""
    for split, count in (("train", 4), ("val", 3), ("test", 2)):
        write_tar(tmp_path / "photos" / f"photos-{split}-000.tar", [f"{split}{i}" for i in range(count)])
    return tmp_path / "photos"


def listed(folder: Path, *keys: str) -> Path:
    path = folder / "keys.txt"
    path.write_text("".join(f"{key}\n" for key in keys))
    return path


@pytest.mark.parametrize(("split", "count"), [("train", 4), ("val", 3), ("validation", 3), ("test", 2), ("all", 9)])
def test_splits_by_any_of_their_words(photos: Path, split: str, count: int) -> None:
    assert len(open_source(str(photos), split)) == count
    assert len(open_source(f"{photos}/*.tar", split)) == count


def test_each_split_takes_its_own_keys_of_one_list(photos: Path, tmp_path: Path) -> None:
    reference = f"{photos}?keys={listed(tmp_path, 'val2', 'train3', 'train1', 'val0', 'train3')}"
    assert list(open_source(reference, "train").keys()) == ["train3", "train1"]
    assert list(open_source(reference, "val").keys()) == ["val2", "val0"]
    assert list(open_source(reference).keys()) == ["val2", "train3", "train1", "val0"]
    with pytest.raises(DataError, match=r"keys\.txt names no sample of split 'test' of .*photos: all of its 4 keys"):
        open_source(reference, "test")


def test_a_key_of_no_split_is_an_error_in_every_split(photos: Path, tmp_path: Path) -> None:
    reference = f"{photos}?keys={listed(tmp_path, 'train0', 'val0', 'nobody')}"
    for split in ("train", "val", "test", "all"):
        with pytest.raises(DataError, match=r"has no sample 'nobody' \(1 of 3 keys are unknown\)"):
            open_source(reference, split)


def test_keys_of_scenes_lie_in_their_splits(tmp_path: Path) -> None:
    reference = f"scenes?count=20&keys={listed(tmp_path, 'scene-val-00000003', 'scene-train-00000007')}"
    training, selection = split_data(reference, 5)
    assert (list(training.keys()), list(selection.keys())) == (["scene-train-00000007"], ["scene-val-00000003"])
    with pytest.raises(DataError, match="names no sample of split 'test' of scenes"):
        open_source(reference, "test")
    with pytest.raises(DataError, match="no sample 'scene-val-00000020'"):
        open_source(f"scenes?count=20&keys={listed(tmp_path, 'scene-val-00000020')}", "train")


def test_a_recipe_trains_and_reports_on_one_list_of_keys(photos: Path, tmp_path: Path) -> None:
    reference = f"{photos}?keys={listed(tmp_path, 'train0', 'train1', 'train2', 'val1')}"
    training, held_out = split_data(reference, 1)
    assert sorted([*training.keys(), *held_out.keys()]) == ["train0", "train1", "train2"]
    assert report_on(reference, "val").name == "val"


def test_a_report_that_cannot_be_made_is_refused_before_training(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no sample of split 'val'"):
        report_on(f"{photos}?keys={listed(tmp_path, 'train0', 'train1')}", "val")


def test_paths_with_signs_in_them(tmp_path: Path) -> None:
    write_tar(tmp_path / "a+b [1]" / "x.tar", ["k0", "k1"])
    listed(tmp_path / "a+b [1]", "k1")
    assert list(open_source(f"{tmp_path}/a+b [1]?keys={tmp_path}/a+b [1]/keys.txt").keys()) == ["k1"]


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("", "no data are named: give a tar, a folder, a table, a parquet file, 'hf:org/name' or 'scenes'"),
        ("{tmp}/none", "no data at .*/none: give a tar"),
        ("{tmp}/none.tar", r"no data at .*/none\.tar"),
        ("{tmp}/*.tar", r"no file matches .*/\*\.tar"),
        ("{tmp}/empty", "empty holds no pictures: nothing to read"),
        ("{tmp}/loose", r"loose holds 2 pictures of which nothing is said: give a table of their captions in .*\.csv"),
        ("{tmp}/notes.txt", r"notes\.txt is no kind of data known here: expected \.tar, \.parquet"),
        ("ftpx://server/a.tar", "cannot read ftpx://server/a.tar: Protocol not known: ftpx"),
        ("ftpx://server/*.tar", r"cannot read ftpx://server/\*\.tar: Protocol not known: ftpx"),
        ("memory://nowhere/a.tar", "no tar at memory://nowhere/a.tar"),
        ("memory://a-folder", r"memory://a-folder is a folder: name its tars, as in memory://a-folder/\*\.tar"),
    ],
)
def test_wrong_references_are_one_sentence(tmp_path: Path, reference: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "loose").mkdir()
    for name in ("1.jpg", "2.PNG", "notes.txt"):
        (tmp_path / "loose" / name).write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    with fsspec.open("memory://a-folder/a.tar", "wb") as file:
        file.write(b"")
    with pytest.raises(DataError, match=sentence) as caught:
        open_source(reference.replace("{tmp}", str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_unknown_options_and_splits_name_the_nearest(photos: Path) -> None:
    with pytest.raises(ConfigError, match="unknown option of a source 'caption': did you mean 'captions'"):
        open_source(f"{photos}?caption=x")
    with pytest.raises(ConfigError, match="unknown split of the scenes 'tset': did you mean 'test'"):
        open_source("scenes", "tset")
    with pytest.raises(DataError, match="has no split 'tset': its files are of train, val, test; choose one of these"):
        open_source(str(photos), "tset")
    with pytest.raises(ConfigError, match="unknown option of the scenes 'object': did you mean 'objects'"):
        open_source("scenes?object=3")
    with pytest.raises(ConfigError, match="unknown kind of scenes 'clip': did you mean 'clips'"):
        open_source("scenes?kind=clip")


def test_a_named_captions_field_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "captions.csv").write_text("image,caption,alt\na.png,short,long\n")
    assert open_source(str(tmp_path))[0].texts == ("short",)
    assert open_source(f"{tmp_path}?captions=alt")[0].texts == ("long",)


def test_in_a_folder_tars_come_before_tables_and_tables_before_classes(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.png").write_bytes(picture())
    assert list(open_source(str(tmp_path)).keys()) == ["cats/a.png"]
    (tmp_path / "metadata.csv").write_text("file_name,text\ncats/a.png,a cat\n")
    assert open_source(str(tmp_path))[0].texts == ("a cat",)
    write_tar(tmp_path / "deep" / "x.tar", ["k"])
    assert list(open_source(str(tmp_path)).keys()) == ["k"]
