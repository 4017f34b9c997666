"""`diptych pack`: any data as tars that read back alike, continued after a kill; mistakes are one sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from diptych.cli import main
from diptych.data.open import open_source
from diptych.data.pixels.decode import decode
from diptych.data.pixels.resize import resized, whole


def write_table(folder: Path, count: int = 7) -> str:
    """Photographs of 60 x 40 with two captions each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["image,caption"]
    for index in range(count):
        small = rng.integers(0, 256, (3, 4, 3), np.uint8)
        PIL.Image.fromarray(small).resize((60, 40), PIL.Image.Resampling.BICUBIC).save(folder / f"{index}.png")
        lines += [f'{index}.png,"caption {index}, one"', f"{index}.png,caption {index} two"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.mark.parametrize(("kind", "tolerance"), [("raw", 0.0), ("jpeg", 3.0)])
def test_keys_captions_and_pictures_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, tolerance: float
) -> None:
    data, folder = write_table(tmp_path / "data"), tmp_path / "packed"
    arguments = ["--format", kind, "--size", "20", "--per-shard", "3"]
    assert main(["pack", data, str(folder), *arguments]) == 0
    assert "7 samples packed; 3 shards" in capsys.readouterr().out
    source, back = open_source(data), open_source(str(folder))
    assert list(back.keys()) == list(source.keys()) and len(list(folder.glob("*.tar.index.npz"))) == 3
    for index in range(7):
        assert back[index].texts == source[index].texts and len(back[index].texts) == 2
        original = decode(source[index].image)
        expected = resized(original, whole(original), 20, 30)
        pixels = decode(back[index].image)
        assert pixels.shape == (20, 30, 3)
        assert np.abs(pixels.astype(int) - expected.astype(int)).mean() <= tolerance


def test_a_split_names_its_shards(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    for split in ("train", "val"):
        assert main(["pack", "scenes?count=5&size=24", str(folder), "--split", split, "--format", "raw"]) == 0
    assert sorted(path.name for path in folder.glob("*.tar")) == ["train-00000.tar", "val-00000.tar"]
    scenes, back = open_source("scenes?count=5&size=24", "val"), open_source(str(folder), "val")
    assert list(back.keys()) == list(scenes.keys())
    for index in range(5):
        one, other = scenes[index].image.pixels_HWC, back[index].image.pixels_HWC
        assert one is not None and other is not None and back[index].texts == scenes[index].texts
        np.testing.assert_array_equal(one, other)


def test_after_kill_9_the_same_command_goes_on_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pack", "scenes?count=1500&size=64", "--per-shard", "100", "--threads", "1"]
    folder = tmp_path / "cut"
    script = "import sys; from diptych.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, *arguments[:2], str(folder), *arguments[2:]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.tar"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(folder.glob("*.tar")))
    assert 3 <= done < 15, "killed in the middle"
    assert main([*arguments[:2], str(folder), *arguments[2:]]) == 0
    printed = capsys.readouterr().out
    assert f"continued: {done} of 15 shards were there" in printed
    assert f"{1500 - 100 * done:,} samples packed; 15 shards" in printed
    assert main([*arguments[:2], str(tmp_path / "whole"), *arguments[2:]]) == 0

    def contents(where: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in where.iterdir() if path.suffix in (".tar", ".jsonl")}

    assert contents(folder) == contents(tmp_path / "whole") and not list(folder.glob(".*"))


def test_bad_samples_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_table(tmp_path / "data")
    (tmp_path / "data" / "3.png").write_bytes(b"<html>")
    (tmp_path / "data" / "5.png").unlink()
    assert main(["pack", data, str(tmp_path / "packed")]) == 0
    printed = capsys.readouterr().out
    assert "5 samples packed; 1 shards" in printed
    assert f"2 left out: missing image 1, not an image 1; named in {tmp_path}/packed/shard.bad.jsonl" in printed
    assert list(open_source(str(tmp_path / "packed")).keys()) == ["0.png", "1.png", "2.png", "4.png", "6.png"]


@pytest.mark.parametrize(
    ("source", "folder", "arguments", "sentence"),
    [
        ("{tmp}/none", "out", [], "no data at {tmp}/none: give a tar"),
        ("scens", "out", [], "no data at scens"),
        ("{tmp}/empty", "out", [], "{tmp}/empty holds no pictures: nothing to read"),
        ("{tmp}/data", "data/packed", [], "{tmp}/data/packed lies inside the source {tmp}/data: name a folder outside"),
        ("{tmp}/data", "thesis", [], "{tmp}/thesis is not empty and holds no pack: name another folder, or empty it"),
        ("{tmp}/data", "file", [], "cannot write {tmp}/file"),
        ("{tmp}/data", "out", ["--size", "-1"], "size -1 must be positive, or 0 to leave pictures as they are"),
        ("{tmp}/data", "out", ["--quality", "0"], "quality 0 must be in [1, 100]"),
        ("{tmp}/data", "out", ["--per-shard", "0"], "per_shard 0 and threads 2 must be at least 1"),
        ("{tmp}/data", "out", ["--threads", "0"], "per_shard 1000 and threads 0 must be at least 1"),
        ("scenes", "out", ["--split", "tset"], "unknown split of the scenes 'tset': did you mean 'test'?"),
        ("{tmp}/broken", "out", [], "not one sample of {tmp}/broken/captions.csv could be packed: missing image 1"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, folder: str, arguments: list[str], sentence: str
) -> None:
    write_table(tmp_path / "data", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "captions.csv").write_text("image,caption\nnone.png,a\n")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("keep me")
    (tmp_path / "file").write_text("")
    assert main(["pack", source.replace("{tmp}", str(tmp_path)), str(tmp_path / folder), *arguments]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"diptych: {sentence.replace('{tmp}', str(tmp_path))}"), said
    assert (tmp_path / "thesis" / "thesis.txt").read_text() == "keep me"
    if "could be packed" not in sentence:
        assert not (tmp_path / "out").exists()


def test_another_size_in_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, folder = write_table(tmp_path / "data"), str(tmp_path / "packed")
    assert main(["pack", data, folder, "--size", "20"]) == 0
    before: dict[str, Any] = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packed").glob("*.tar")}
    assert main(["pack", data, folder, "--size", "30"]) == 2
    assert "holds a pack of another size (20 there, 30 now)" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packed").glob("*.tar")} == before
