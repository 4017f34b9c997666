import errno
from pathlib import Path

import pytest

from diptych.core.errors import StorageError
from diptych.core.storage import atomic_file, atomic_folder, storage_errors, write_text


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
