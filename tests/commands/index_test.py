"""`diptych index`: what it writes is what reading uses, what it prints is true, and mistakes are one sentence."""

import errno
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import PIL.Image
import pytest

from diptych.cli import main
from diptych.data.open import open_source
from diptych.data.sources import _tar_index
from diptych.data.sources._tar_index import SUFFIX, index_of

Members = list[tuple[str, bytes]]


def picture() -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def tar_of(members: Members) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def pairs(*names: str) -> Members:
    return [pair for name in names for pair in ((f"{name}.png", picture()), (f"{name}.txt", name.encode()))]


def write(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_of(members))
    return path


def no_walk(*arguments: Any) -> Any:
    raise AssertionError("the tar was walked although its index is there")


def test_a_folder_is_indexed_and_its_tars_are_not_walked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = [
        write(tmp_path / "a.tar", [*pairs("a0", "a1"), ("mute.png", picture()), ("alone.txt", b"x")]),
        write(tmp_path / "deep" / "b.tar", [*pairs("b0", "a1")]),
    ]
    assert main(["index", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "4 samples in 2 tars" in lines
    assert "of the first 4: 3 with captions, 1 with neither" in lines
    assert "duplicate key: 1 (a1)" in lines and "no image: 1 (alone)" in lines
    assert all(Path(f"{tar}{SUFFIX}").is_file() for tar in tars)
    monkeypatch.setattr(_tar_index, "scan", no_walk)
    source = open_source(str(tmp_path))
    assert list(source.keys()) == ["a0", "a1", "mute", "b0"] and source[3].texts == ("b0",)


def test_tars_and_patterns_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        write(tmp_path / f"s-{number:03d}.tar", pairs(f"k{number}"))
    assert main(["index", f"{tmp_path}/s-{{000..001}}.tar", f"{tmp_path}/*3.tar"]) == 0
    assert "3 samples in 3 tars" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == [f"s-00{n}.tar{SUFFIX}" for n in (0, 1, 3)]
    assert main(["index", f"{tmp_path}/s-002.tar"]) == 0
    assert "1 samples in 1 tar\n" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.npz"))) == 4


@pytest.mark.parametrize("where", ["memory://indexed{tmp}", "file://{tmp}"])
def test_tars_that_are_not_local_keep_their_index_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    place = where.replace("{tmp}", str(tmp_path))
    with fsspec.open(f"{place}/r-000.tar", "wb") as file:
        file.write(tar_of(pairs("r0", "r1")))
    monkeypatch.chdir(tmp_path)
    assert main(["index", f"{place}/*.tar"]) == 0
    assert "2 samples in 1 tar\nof the first 2: 2 with captions" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []  # no folder called "memory:"
    with monkeypatch.context() as patched:
        patched.setattr(_tar_index, "scan", no_walk)
        source = open_source(f"{place}/r-000.tar")
        assert [source[i].texts for i in range(2)] == [("r0",), ("r1",)]
    with fsspec.open(f"{place}/r-000.tar", "wb") as file:
        file.write(tar_of(pairs("changed", "and", "longer")))
    assert index_of(f"{place}/r-000.tar").keys == ["changed", "and", "longer"]


def test_a_tar_that_breaks_off_is_told_and_what_is_whole_is_indexed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tar_of(pairs("k0", "k1", "k2"))
    (tmp_path / "cut.tar").write_bytes(whole[: 512 * 4 + 520])  # inside the second picture
    assert main(["index", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "1 samples in 1 tar" in printed and f"truncated tar: 1 ({tmp_path / 'cut.tar'})" in printed


def test_undecodable_captions_are_counted_not_fatal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.tar", [*pairs("k0"), ("bad.png", picture()), ("bad.txt", b"\xff\xff")])
    assert main(["index", str(tmp_path)]) == 0
    assert "of the first 2: 1 with captions, 1 undecodable text" in capsys.readouterr().out


def test_classes_do_for_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.tar", [("cat/1.png", picture()), ("dog/1.png", picture())])
    assert main(["index", str(tmp_path)]) == 0
    assert "of the first 2: 2 with a class" in capsys.readouterr().out


def test_no_captions_is_one_sentence_with_the_fields_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = write(tmp_path / "a.tar", [("k.png", picture()), ("k.json", json.dumps({"alt": "x", "width": 4}).encode())])
    assert main(["index", str(tar)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("diptych: no captions in the first 1 samples: looked for .txt members and for captions,")
    assert "which have the fields alt, width; --captions FIELD" in said
    assert index_of(str(tar)).keys == ["k"] and Path(f"{tar}{SUFFIX}").is_file()
    assert main(["index", str(tar), "--captions", "alt"]) == 0
    assert "of the first 1: 1 with captions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "no pictures in"), (tar_of([]), "no pictures in"), (tar_of([("k.txt", b"x")]), "no pictures in"),
     (b"not a tar" * 200, "no pictures in")],
)  # fmt: skip
def test_a_tar_without_pictures_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    assert main(["index", str(tmp_path / "a.tar")]) == 2
    assert f"diptych: {sentence} {tmp_path / 'a.tar'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("none.tar", "no tar at {tmp}/none.tar"),
        ("empty", "no tar below {tmp}/empty"),
        ("none-*.tar", "no file matches {tmp}/none-*.tar"),
        ("ftpx://s/a.tar", "cannot read ftpx://s/a.tar: Protocol not known: ftpx"),
    ],
)
def test_wrong_paths_are_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, sentence: str
) -> None:
    good = write(tmp_path / "good" / "a.tar", pairs("k0"))
    (tmp_path / "empty").mkdir()
    assert main(["index", str(good), path if "://" in path else f"{tmp_path}/{path}"]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"diptych: {sentence.replace('{tmp}', str(tmp_path))}")
    assert not list(tmp_path.rglob(f"*{SUFFIX}*"))


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.tar", pairs("k0"))

    def forbidden(**arguments: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", forbidden)
    assert main(["index", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"diptych: cannot write {tmp_path}/a.tar{SUFFIX}: no permission to write there: choose another folder; "
        "the tars can be read all the same: without an index beside it, each is walked when opened"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
