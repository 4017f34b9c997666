"""Benchmarks that come as files of their own: a folder of annotations, and pictures where the user has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int


class AnnotationFolder:
    """The source of such a benchmark: it has no samples of ours, only a place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Sample:
        raise BadSample(str(index), "no sample", "an annotation folder is read by its benchmark")

    def keys(self) -> Sequence[str]:
        return []

    def fingerprint(self) -> str:
        files = sorted(self.folder.glob("*.json*"))
        return f"{hash_to_int(*(f'{file.name} {file.stat().st_size}' for file in files)):016x}"


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DataError: truncated or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no file at {path}") from error
    except ValueError as error:
        raise DataError(f"{path} is truncated or not JSON: {error}") from error


def read_json_lines(path: Path) -> list[Any]:
    """A JSONL file.

    Raises:
        DataError: not there, or a line is not JSON.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise DataError(f"no file at {path}") from error
    except ValueError as error:
        raise DataError(f"{path}: a line is not JSON: {error}") from error


def check_entries(entries: Iterable[Any], fields: Sequence[str], path: Path) -> None:
    """Looks whether every entry of a file has the fields that the benchmark reads.

    Raises:
        DataError: one has not; the first is named.
    """
    for number, entry in enumerate(entries):
        if lacking := [name for name in fields if not isinstance(entry, dict) or name not in entry]:
            raise DataError(f"{path}: entry {number} has no field '{lacking[0]}', which the official file has")


def annotation_folder(source: Any, benchmark: str) -> Path:
    """Where the benchmark's files lie.

    Raises:
        DataError: the data that was named is not such a folder.
    """
    if isinstance(source, AnnotationFolder):
        return source.folder
    raise DataError(f"{benchmark} reads its own files: name their folder with --data")
