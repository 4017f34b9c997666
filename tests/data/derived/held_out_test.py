"""A part held out of data without splits: by picture, the same every time, and nothing of it in training."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from diptych.core.errors import DataError
from diptych.core.source import Source
from diptych.data.derived.held_out import choose_held_out
from diptych.data.derived.subset import select_keys
from diptych.data.open import open_source

PICTURES = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures, each of them in two files, each file in two rows."""
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        for i in range(PICTURES):
            for copy in range(2):
                Image.new("RGB", (8, 8), (i * 10, 0, 0)).save(tmp_path / f"{copy}-{i}.png")
                rows.writerows([[f"{copy}-{i}.png", f"shade {i}, said {said}"] for said in range(2)])
    return tmp_path


def shades(source: Source) -> set[str]:
    return {text.partition(",")[0] for index in range(len(source)) for text in source[index].texts}


def test_copies_and_captions_of_a_picture_stay_on_one_side(folder: Path, tmp_path: Path) -> None:
    chosen = choose_held_out(open_source(str(folder)))
    assert (chosen.pictures, chosen.of, chosen.unread) == (4, PICTURES, 0)
    file = tmp_path / "test.txt"
    file.write_text("\n".join(chosen.keys))
    whole, train, test = (open_source(f"{folder}?held_out={file}", split) for split in ("all", "train", "test"))
    assert len(train) + len(test) == len(whole) and list(test.keys()) == list(chosen.keys)
    assert len(shades(test)) == 4 and len(shades(train)) == PICTURES - 4 and not shades(train) & shades(test)
    with pytest.raises(DataError, match="no split 'val'"):
        open_source(f"{folder}?held_out={file}", "val")


def test_the_choice_is_of_the_bytes_and_not_of_the_names(folder: Path) -> None:
    before = shades(_held(folder))
    for i in range(PICTURES):
        (folder / f"0-{i}.png").rename(folder / f"renamed-{i}.png")
    table = folder / "captions.csv"
    table.write_text(table.read_text().replace("0-", "renamed-").replace("1renamed-", "10-"))
    assert shades(_held(folder)) == before


def _held(folder: Path) -> Source:
    source = open_source(str(folder))
    return select_keys(source, choose_held_out(source).keys)


def test_one_picture_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "a.png")
    with pytest.raises(DataError, match="1 different pictures"):
        choose_held_out(open_source(str(tmp_path)))


def test_records_that_cannot_be_read_are_counted_and_stay_in_training(folder: Path) -> None:
    for i in range(3):
        (folder / f"0-{i}.png").unlink()
    chosen = choose_held_out(open_source(str(folder)))
    assert chosen.unread == 3 and chosen.of == PICTURES  # rows of one file are one sample; the copies are there
    assert len(chosen.keys) + chosen.unread < len(open_source(str(folder)))
