"""Answers as a file: CSV for a spreadsheet, JSONL for programs; both are data of ours again (data/sources/table.py)."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from diptych.core.errors import ConfigError
from diptych.core.storage import storage_errors, write_text
from diptych.serving.job import Answered

ENDINGS = (".csv", ".jsonl")
FILE = "file"
"""The column of a picture's path below its folder."""


def check_table(path: Path) -> None:
    """Looks whether a table can be written there, before the work is done.

    Raises:
        ConfigError: its name says no format known here.
        StorageError: the folder cannot be written.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"--out {path}: the name says the format, and must end in {' or '.join(ENDINGS)}")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Writes nothing that stays.

    Raises:
        ConfigError: a folder stands there.
        StorageError: the folder cannot be written.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as trial:
            trial.write(b"\0" * 4096)


def write_table(answered: Sequence[Answered], path: Path) -> None:
    """Writes every answer, in place of what stood there; a reader never meets half of it.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    rows = [{FILE: printable(one.key), **one.row} for one in answered]
    if path.suffix.lower() == ".jsonl":
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def printable(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8, and characters that command a terminal, are spelled out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in name)
