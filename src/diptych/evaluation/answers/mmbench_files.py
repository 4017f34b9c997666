"""MMBench's questions: tables with the pictures in them.

Columns: index, question, A, B, C, D, answer, image (base64), and perhaps hint and category. An image may be the index
of the row that has it; rows of the circular release (index + 1,000,000 a rotation) are left out, for the rotations are
made here.
"""

from __future__ import annotations

import base64
import binascii
import csv
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.records.results import SampleRecord
from diptych.core.visual import Image
from diptych.evaluation.answers.lettered import LETTERS
from diptych.evaluation.answers.questions import Question
from diptych.evaluation.benchmark import Records

_COLUMNS = ("index", "question", "A", "B", "image")
_ROTATION = 1_000_000
_SHORT = 64
"""No picture is written in so few letters: it is the index of another row."""

Row = Mapping[str, str]


def holds_mmbench(folder: Path) -> bool:
    """Whether there is a TSV whose first line has MMBench's columns."""
    return any(_is_one(path) for path in sorted(folder.glob("*.tsv")))


def _is_one(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return set(_COLUMNS) <= set(file.readline().rstrip("\n").split("\t"))


def read_mmbench(folder: Path, name: str, records: Records) -> list[Question]:
    """The questions; one whose answer is not published is recorded as skipped.

    Args:
        name: of the file; "" for the only one.

    Raises:
        DataError: no file, several, or none of its questions has an answer.
    """
    path = _file(folder, name)
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path} holds no questions")
    found = []
    for place in records.within_limit([str(key) for key in rows]):
        key, row = list(rows.items())[place]
        options = {letter: row[letter].strip() for letter in LETTERS if row.get(letter, "").strip() not in ("", "nan")}
        letter = row.get("answer", "").strip().upper()
        if letter not in options:
            records.add(SampleRecord(str(key), status="skipped: no answers"))
            continue
        hint = "" if row.get("hint", "").strip() in ("", "nan") else f"{row['hint'].strip()}\n"
        image = partial(_image, rows, key)
        text, kind = hint + row["question"].strip(), row.get("category", "") or "other"
        found.append(
            Question(str(key), text, image, _owner(rows, key), (options[letter],), tuple(options.values()), kind)
        )
    if not found:
        raise DataError(f"{path}: none of the questions has its answer (MMBench's test part is scored by its server)")
    return found


def _file(folder: Path, name: str) -> Path:
    found = [folder / name] if name else [path for path in sorted(folder.glob("*.tsv")) if _is_one(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder} has several tables ({names}): choose one with --set multiple_choice.file=NAME")
    if not found or not found[0].is_file():
        raise DataError(f"no table at {folder / name}: expected MMBench's TSV with {', '.join(_COLUMNS)}")
    return found[0]


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lifts the csv module's limit, which pictures exceed, and puts it back: it is the whole process's."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _rows(path: Path) -> dict[int, Row]:
    found: dict[int, Row] = {}
    with _long_fields(), path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t"), 2):
            if not row["index"].isdigit():
                raise DataError(f"{path}, line {number}: the index is '{row['index']}', and no number")
            found[int(row["index"])] = {name: value or "" for name, value in row.items()}
    return {key: row for key, row in found.items() if key < _ROTATION}


def _owner(rows: Mapping[int, Row], key: int) -> str:
    """The row that has the picture."""
    said = rows[key]["image"].strip()
    return said if len(said) < _SHORT and said.isdigit() else str(key)


def _image(rows: Mapping[int, Row], key: int) -> Image | None:
    owner = int(_owner(rows, key))
    if owner not in rows or not rows[owner]["image"]:
        return None
    try:
        return Image(encoded=base64.b64decode(rows[owner]["image"], validate=True), name=str(owner))
    except binascii.Error as error:
        raise BadSample(str(key), "truncated image", f"it is not base64: {error}") from error
