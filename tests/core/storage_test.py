import errno
from pathlib import Path

import pytest

from diptych.core.errors import StorageError
from diptych.core.storage import atomic_file, atomic_folder, remove_folder, storage_errors, sweep, write_text


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_file(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    write_text(target, "new")
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "checkpoint") as part:
        (part / "weights").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "checkpoint") as part:
        (part / "weights").write_text("whole")
    assert (tmp_path / "checkpoint" / "weights").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_sweeping_takes_what_was_left_and_nothing_else(tmp_path: Path) -> None:
    kept = ["file.txt", ".DS_Store", ".hidden", ".git", "name.a1b2c3d4", ".notes.backup", ".notes.A1B2C3D4"]
    for name in kept:
        (tmp_path / name).write_text("")
    (tmp_path / ".best.json.a1b2c3_4").write_text("half")
    for name in (".train-00000003.a1b2c3d4", ".train-00000001._removed"):
        (tmp_path / name / "model").mkdir(parents=True)
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
    sweep(tmp_path / "none")


def test_what_a_killed_writer_leaves_is_swept(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder") as part, atomic_file(tmp_path / "file.txt") as half:
        left = [tmp_path / "again" / part.name, tmp_path / "again" / half.name]
    left[0].mkdir(parents=True)
    left[1].write_text("half")
    sweep(tmp_path / "again")
    assert list((tmp_path / "again").iterdir()) == []


def test_a_folder_goes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoint"
    (folder / "model").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda path: None)  # killed before anything was removed
        remove_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == [".checkpoint._removed"]
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match=r"cannot write .*none: No such file"):
        remove_folder(tmp_path / "none")


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "no permission"), (errno.EROFS, "read-only")]
)
def test_operating_system_errors_become_a_sentence(code: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=reason), storage_errors(tmp_path):
        raise OSError(code, "x")


def test_a_really_full_disk(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(StorageError, match="disk is full"), storage_errors(full), full.open("w") as file:
        file.write("x")
        file.flush()
