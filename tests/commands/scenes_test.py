"""`diptych scenes`: a sheet of the pictures and captions that the source gives; mistakes are one sentence."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from diptych.cli import main
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.sheet import contact_sheet
from diptych.data.scenes.source import Scenes

PAPER = (255, 255, 255)
SIDE, MARGIN, CELL = 208, 20, 628
"""Of a picture on the sheet, of the space around it, and the width of a picture with its text."""


def read(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as sheet:
        assert sheet.format == "PNG" and sheet.mode == "RGB"
        return np.asarray(sheet)


def shown(sheet: np.ndarray, column: int, top: int = 0) -> np.ndarray:
    left = column * CELL + MARGIN
    return sheet[top + MARGIN : top + MARGIN + SIDE, left : left + SIDE]


def enlarged(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(pixels).resize((SIDE, SIDE), PIL.Image.Resampling.NEAREST))


def test_the_sheet_shows_the_pictures_of_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "sheet.png"
    assert main(["scenes", "--out", str(out), "--count", "3", "--split", "test", "--objects", "2", "--seed", "4"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    sheet = read(out)
    assert sheet.shape == (2 * (SIDE + 2 * MARGIN), 2 * CELL, 3)
    source = Scenes("test", 3, SceneConfig(objects=2, seed=4))
    for index in range(3):
        pixels = source[index].image.pixels_HWC
        assert pixels is not None
        np.testing.assert_array_equal(shown(sheet, index % 2, index // 2 * (SIDE + 2 * MARGIN)), enlarged(pixels))
    assert (sheet[SIDE + 2 * MARGIN : -1, CELL:] == PAPER).all()  # a fourth there is not


def test_every_caption_and_a_negative_is_written_beside_its_picture() -> None:
    sample = Scenes("train", 5, SceneConfig(min_objects=2))[1]
    whole = np.asarray(contact_sheet([sample])).astype(int)
    assert (whole[:, :CELL] != PAPER).any() and (whole[MARGIN - 3 : MARGIN + 12, SIDE + 2 * MARGIN : CELL] < 100).any()
    tops = []
    for index in range(len(sample.texts)):
        texts = tuple("x" if i == index else text for i, text in enumerate(sample.texts))
        changed = np.asarray(contact_sheet([replace(sample, texts=texts)])).astype(int)
        assert changed.shape == whole.shape
        rows, columns = np.nonzero((changed != whole).any(2))
        assert columns.min() >= SIDE + 2 * MARGIN
        tops.append(int(rows.min()))
    assert len(tops) == 5 and all(other - one > 12 for one, other in pairwise(tops))  # below one another
    without = np.asarray(contact_sheet([replace(sample, meta={})])).astype(int)
    rows, _ = np.nonzero((without != whole).any(2))
    assert len(rows) and rows.min() > max(tops)


def test_long_captions_make_their_row_higher_and_touch_no_other(tmp_path: Path) -> None:
    source = Scenes("test", 2, SceneConfig(objects=8, min_objects=8))
    one, two = source[0], source[1]
    single = np.asarray(contact_sheet([one]))
    assert single.shape[0] > SIDE + 2 * MARGIN + 60
    assert (single[-MARGIN + 4 : -1, :CELL] == PAPER).all()  # the text ends above the margin
    stacked = np.asarray(contact_sheet([one, one, two, two]))
    np.testing.assert_array_equal(stacked[: single.shape[0], :CELL], single[:, :CELL])
    np.testing.assert_array_equal(stacked[single.shape[0] :, :CELL], np.asarray(contact_sheet([two]))[:, :CELL])


def test_the_same_arguments_make_the_same_sheet_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a.png", "0"), ("b.png", "0"), ("c.png", "1")):
        assert main(["scenes", "--out", str(tmp_path / name), "--count", "2", "--seed", seed, "--size", "32"]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--split", "tset"], "unknown split of the scenes 'tset': did you mean 'test'?"),
        (["--objects", "9"], "between 1 and 8 objects fit, got 1 to 9"),
        (["--size", "8"], "scenes are drawn at 24 to 1024 pixels, not 8"),
        (["--count", "0"], "--count 0: a sheet holds 1 to 400 pictures"),
        (["--count", "1000000"], "--count 1000000: a sheet holds 1 to 400 pictures"),
        (["--out", "{tmp}/sheet.jpg"], "--out {tmp}/sheet.jpg: the sheet is a PNG, so its name must end in .png"),
        (["--out", "{tmp}/file/sheet.png"], "cannot write {tmp}/file/sheet.png: "),
        (["--out", "{tmp}/folder.png"], "cannot write {tmp}/folder.png: Is a directory"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    given = [one.replace("{tmp}", str(tmp_path)) for one in arguments]
    extra = [] if "--out" in given else ["--out", str(tmp_path / "sheet.png")]
    assert main(["scenes", "--size", "24", "--count", "2", *given, *extra]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"diptych: {sentence.replace('{tmp}', str(tmp_path))}") and said.err.count("\n") == 1
    assert said.out == "" and sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_an_unknown_argument_ends_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["scenes", "--colour", "red"])
    assert ended.value.code == 2 and "usage: diptych scenes" in capsys.readouterr().err
