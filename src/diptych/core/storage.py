"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diptych.core.errors import StorageError

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")
"""The names that are given below: `tempfile` ends them in eight such characters."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one sentence."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path) -> StorageError:
    """The sentence for an operating system error while writing `path`."""
    reasons = {
        errno.ENOSPC: "the disk is full: free some space or choose another folder",
        errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
        errno.EACCES: "no permission to write there: choose another folder",
        errno.EPERM: "no permission to write there: choose another folder",
        errno.EROFS: "the file system is read-only: choose another folder",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"cannot write {path}: {reason}")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and vanishes when it does not.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            sync(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes it when the block ends well; `path` must not exist yet.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield part
            for file in part.rglob("*"):
                if file.is_file():
                    sync(file)
            part.chmod(0o755)
            part.rename(path)
            sync(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Removes a folder under another name first, so that a kill in the middle leaves no half of it under its own.

    Raises:
        StorageError: it cannot be removed.
    """
    with storage_errors(path):
        shutil.rmtree(path.rename(path.with_name(f".{path.name}._removed")))


def sweep(folder: Path) -> None:
    """Removes what killed processes left in a folder: temporary files and folders, half-removed ones.

    Raises:
        StorageError: they cannot be removed.
    """
    with storage_errors(folder):
        for left in folder.glob(".*.*") if folder.is_dir() else ():
            if not _TEMPORARY.fullmatch(left.name):
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
        part.chmod(0o644)


def sync(path: Path) -> None:
    """Flushes a file or a folder entry to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
