"""Class folders: the class is the folder a picture lies in, keys are paths, and nothing else counts."""

from pathlib import Path

import pytest

from diptych.core.processor import BadSample
from diptych.data.sources.class_folders import ClassFolders


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_the_class_is_the_innermost_folder(tmp_path: Path) -> None:
    write(tmp_path, "cats/b.jpg", "cats/a.PNG", "animals/dogs/c.webp", "Ünïcode, class/d.gif")
    source = ClassFolders(tmp_path)
    assert list(source.keys()) == ["animals/dogs/c.webp", "cats/a.PNG", "cats/b.jpg", "Ünïcode, class/d.gif"]
    assert [source[i].meta["class"] for i in range(4)] == ["dogs", "cats", "cats", "Ünïcode, class"]
    assert source[2].key == "cats/b.jpg" and source[2].image.encoded == b"cats/b.jpg" and source[2].texts == ()
    assert len(source) == 4


def test_what_is_no_picture_or_lies_in_no_class_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, "cats/a.jpg", "loose.jpg", "cats/notes.txt", "cats/.DS_Store", "README.md")
    assert list(ClassFolders(tmp_path).keys()) == ["cats/a.jpg"]


def test_only_the_named_folders(tmp_path: Path) -> None:
    write(tmp_path, "train/cats/a.jpg", "val/cats/a.jpg", "val/loose.jpg")
    source = ClassFolders(tmp_path, ["val"])
    assert list(source.keys()) == ["val/cats/a.jpg"] and source[0].meta["class"] == "cats"


def test_a_picture_that_went_away_is_a_bad_sample(tmp_path: Path) -> None:
    write(tmp_path, "cats/a.jpg")
    source = ClassFolders(tmp_path)
    (tmp_path / "cats" / "a.jpg").unlink()
    with pytest.raises(BadSample, match=r"cats/a\.jpg: missing image"):
        source[0]
