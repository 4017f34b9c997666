"""`diptych classify`, `caption` and `ask` on a folder such as people have: odd names, broken files, interrupts."""

import csv
import html
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from colours import COLOURS, ColourEncoder, ColourTalker, fill, picture, saved

from diptych.cli import main
from diptych.core.errors import StorageError
from diptych.data.open import open_source
from diptych.serving import output

ODD = 'two <b>"words" & 100%.PNG'


@pytest.fixture
def talker(tmp_path: Path) -> str:
    return saved(ColourTalker(), tmp_path / "talker")


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    return saved(ColourEncoder(), tmp_path / "encoder")


def messy(folder: Path) -> Path:
    """Six good pictures and one of an odd name; five that are broken, each in its own way; things to pass over."""
    fill(folder)
    picture("blue", 9).save(folder / "red" / ODD)
    whole = io.BytesIO()
    picture("red", 5, (200, 200)).save(whole, "JPEG")
    (folder / "cut.jpg").write_bytes(whole.getvalue()[:900])
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.webp").touch()
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "green" / "folder.jpg").mkdir()
    picture("red").save(folder / ".hidden.png")
    (folder / "notes.txt").write_text("red")
    return folder


BROKEN = {
    "cut.jpg": "truncated image", "text.png": "not an image", "empty.webp": "empty file",
    "gone.jpg": "file cannot be read (No such file or directory)",
}  # fmt: skip


def read_csv(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a mistake."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


def test_classify_sorts_what_can_be_read_and_names_what_cannot(
    encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, page = messy(tmp_path / "photos"), tmp_path / "out.csv", tmp_path / "page.html"
    labels = ["--labels", *COLOURS, "--top", "2", "--out", str(out), "--html", str(page)]
    assert main(["classify", str(folder), "--model", encoder, *labels]) == 0
    rows = read_csv(out)
    truth = {f"{colour}/{index:03d}.png": colour for colour in COLOURS for index in range(2)} | {f"red/{ODD}": "blue"}
    assert {key: row["label"] for key, row in rows.items()} == truth
    for row in rows.values():
        assert row["label_2"] != row["label"] and float(row["score_2"]) < float(row["score"]) <= 1
    said = capsys.readouterr().out
    assert "7 of 11 pictures" in said and "4 left out" in said
    for name, reason in BROKEN.items():
        assert f"{name}: {reason}" in said
    written = page.read_text(encoding="utf-8")
    assert ODD not in written and html.escape(ODD, quote=False).replace('"', "&#34;") in written
    assert written.count("data:image/jpeg;base64,") == 7 and not re.search(r"<script|https?://|url\(", written)
    assert [int(n) for n in re.findall(r"<h2 id=[^>]*>\w+ <span>(\d+)", written)] == [3, 2, 2]
    assert all(f"<b>{name}</b> {reason.split(' (')[0]}" in written for name, reason in BROKEN.items())
    assert (folder / "red" / ODD).as_uri() in html.unescape(written)


def test_threads_and_batches_change_nothing(encoder: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 5)
    found = []
    for name, *more in (("a", "--threads", "1", "--batch-size", "1"), ("b", "--threads", "4", "--batch-size", "7")):
        out = tmp_path / f"{name}.csv"
        assert main(["classify", str(folder), "--model", encoder, "--labels", *COLOURS, "--out", str(out), *more]) == 0
        found.append(out.read_text())
    assert found[0] == found[1] and found[0].count("\n") == 16


def test_labels_come_from_a_file_and_the_model_s_own_are_not_made_up(
    encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, names = str(fill(tmp_path / "photos", 1)), tmp_path / "labels.txt"
    names.write_text("red\n\n green \nblue\n", encoding="utf-8")
    start = ["classify", photos, "--model", encoder]
    out = tmp_path / "out.jsonl"
    assert main([*start, "--labels", str(names), "--templates", "{} all over", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(row["file"] == f"{row['label']}/000.png" for row in rows) and len(rows) == 3
    names.write_text("\n")
    assert "holds no labels" in refused([*start, "--labels", str(names)], capsys)
    assert "has no classes of its own" in refused(start, capsys)
    assert "two or more" in refused([*start, "--labels", "red"], capsys)
    assert "'red' is given twice" in refused([*start, "--labels", "red", "red"], capsys)


def test_captions_make_data_of_the_folder(talker: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos")
    out = folder / "captions.jsonl"
    assert main(["caption", str(folder), "--model", talker, "--prompt", "seen", "--out", str(out)]) == 0
    source = open_source(str(folder))
    assert {source[index].key: source[index].texts for index in range(len(source))} == {
        f"{colour}/{index:03d}.png": (f"a {colour} picture, seen",) for colour in COLOURS for index in range(2)
    }


def test_a_prompt_that_fits_no_picture_is_one_sentence(
    talker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = str(fill(tmp_path / "photos", 1))
    assert "the prompt does not fit" in refused(["caption", photos, "--model", talker, "--prompt", "x" * 50], capsys)


def test_a_question_is_asked_of_every_picture(talker: str, tmp_path: Path) -> None:
    photos, out = str(fill(tmp_path / "photos", 1)), tmp_path / "out.csv"
    page = tmp_path / "page.html"
    question = "Is this <red>?"
    arguments = ["--choices", "yes", "no", "--out", str(out), "--html", str(page)]
    assert main(["ask", photos, "--model", talker, question, *arguments]) == 0
    found = {key: row["answer"] for key, row in read_csv(out).items()}
    assert found == {"red/000.png": "yes", "green/000.png": "no", "blue/000.png": "no"}
    assert "<h1>Is this &lt;red&gt;?</h1>" in page.read_text()


def test_a_model_without_the_verb_is_refused(encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = str(fill(tmp_path / "photos", 1))
    said = refused(["caption", photos, "--model", encoder], capsys)
    assert "colour_encoder has no verb 'generate_text': it offers answer, encode_image" in said
    assert re.search(r"models that have it: .*coca, .*llava", said) and "clip," not in said
    said = refused(["ask", photos, "Is it red?", "--model", encoder], capsys)
    assert "answers by the highest score over the choices: name the answers there may be, --choices" in said


def test_an_interrupt_keeps_what_was_answered(talker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, out, asked = str(fill(tmp_path / "photos")), tmp_path / "out.csv", []

    def answer(self: Any, visuals: Any, questions: Any, choices: Any = None) -> list[str]:
        asked.append(len(visuals))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ["yes"] * len(visuals)

    monkeypatch.setattr(ColourTalker, "answer", answer)
    assert main(["ask", photos, "Well?", "--model", talker, "--out", str(out), "--batch-size", "2"]) == 130
    assert list(read_csv(out)) == ["blue/000.png", "blue/001.png", "green/000.png", "green/001.png"]


def test_a_full_disk_costs_one_file_and_not_the_others(
    talker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out, page = str(fill(tmp_path / "photos", 1)), tmp_path / "out.csv", tmp_path / "page.html"
    out.write_text("from before")

    def full(path: Path, text: str) -> None:
        raise StorageError(f"cannot write {path}: the disk is full")

    monkeypatch.setattr(output, "write_text", full)
    arguments = ["caption", photos, "--model", talker, "--out", str(out), "--html", str(page)]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert "the disk is full" in said.err and "a green picture" in said.out
    assert out.read_text() == "from before" and page.read_text().count("a green picture") == 1
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]  # noqa: PTH208


def test_mistakes_are_one_sentence_before_a_model_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    photos = str(fill(tmp_path / "photos", 1))
    (tmp_path / "file").touch()
    cases = {
        ("none",): "holds no pictures: looked in all of its folders for .jpg",
        ("nowhere",): "no data at",
        ("lost.jpg",): "no picture at",
        ("photos", "--out", "x.txt"): "must end in .csv or .jsonl",
        ("photos", "--out", "file/x.csv"): "cannot write",
        ("photos", "--html", "x.pdf"): "must end in .html",
        ("photos", "--open"): "--open needs a page",
        ("photos", "--batch-size", "0"): "must be at least 1",
    }
    os.chdir(tmp_path)
    for arguments, sentence in cases.items():
        assert sentence in refused(["caption", *arguments, "--model", "no/model"], capsys)
    assert Path(photos).is_dir() and not (tmp_path / "x.pdf").exists()


def test_nothing_that_can_be_read_is_an_error(talker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    said = refused(["caption", str(tmp_path / "photos"), "--model", talker], capsys)
    assert "could not be asked about a single picture" in said and "a.jpg: not an image" in said


def test_a_single_picture_will_do(talker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture("green").save(tmp_path / "one.png")
    assert main(["caption", str(tmp_path / "one.png"), "--model", talker]) == 0
    assert "a green picture" in capsys.readouterr().out
