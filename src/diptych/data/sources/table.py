"""A folder of pictures with a CSV, TSV or JSONL that says which caption belongs to which.

The picture's column is the first of image, image_path, filename, file_name, file, path; the caption's the first of
captions, caption, text, texts, sentences. Several rows of one picture become several captions of one sample. A TSV
without a header whose first column reads `picture.jpg#0` is Flickr8k's token file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.sources._captions import CAPTION_FIELDS, IMAGE_FIELDS, captions_of, plain_meta
from diptych.data.sources._content import digest_of, files_digest

NAMES = tuple(f"{stem}.{ending}" for stem in ("captions", "metadata") for ending in ("jsonl", "csv", "tsv"))
ENDINGS = (".csv", ".tsv", ".jsonl")


class TableSource:
    """One sample a picture that the table names.

    Attributes:
        problems: reason -> places; rows that name no picture.

    Raises:
        DataError: the table cannot be read, or none of its rows names a picture.
    """

    def __init__(self, table: Path, images: Path | None = None, fields: Sequence[str] = CAPTION_FIELDS) -> None:
        self.name = str(table)
        self.problems: dict[str, list[str]] = {}
        self._folder = images or table.parent
        self._records: dict[str, dict[str, Any]] = {}
        self._fingerprint = ""
        record: dict[str, Any] = {}
        for number, record in enumerate(_records(table), 1):
            self._add(record, f"{table.name}, record {number}", fields)
        if self.problems and not self._records:
            raise DataError(
                f"{table}: no column names the picture; expected one of {', '.join(IMAGE_FIELDS)}, "
                f"found {', '.join(map(str, record))}"
            )
        self._keys = list(self._records)

    def _add(self, record: Mapping[str, Any], place: str, fields: Sequence[str]) -> None:
        column = next((name for name in IMAGE_FIELDS if record.get(name)), None)
        if column is None:
            self.problems.setdefault("no image", []).append(place)
            return
        key = str(record[column])
        known = self._records.setdefault(key, {"texts": (), "meta": plain_meta(record, (*fields, column))})
        known["texts"] += captions_of(record, fields)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        """Of what the table says and the pictures, as they are when it is first asked for."""
        if not self._fingerprint:
            said = json.dumps(list(self._records.items()), ensure_ascii=True, sort_keys=True)
            self._fingerprint = digest_of([said, files_digest([self._folder / key for key in self._keys])])
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        """Reads the picture's file.

        Raises:
            BadSample: "missing image".
        """
        key = self._keys[index]
        record = self._records[key]
        return Sample(key, (read_picture(self._folder / key, key),), record["texts"], meta=record["meta"])


def read_picture(path: Path, key: str) -> Image:
    """A file's bytes.

    Raises:
        BadSample: "missing image".
    """
    try:
        return Image(encoded=path.read_bytes(), name=str(path))
    except OSError as error:
        raise BadSample(key, "missing image", str(error)) from error


def _records(table: Path) -> Iterator[dict[str, Any]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            if table.suffix == ".jsonl":
                yield from json_lines(file, table)
            else:
                yield from _rows(file, "\t" if table.suffix == ".tsv" else ",")
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 text: {error}") from error
    except csv.Error as error:
        raise DataError(f"{table} is no table: {error}") from error


def json_lines(lines: Iterable[str], table: Path) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines.

    Raises:
        DataError: a line is none.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{table}, line {number} is not JSON: {error}") from error
            if not isinstance(record, dict):
                raise DataError(f"{table}, line {number} is no object of named fields but {line.strip()[:40]}")
            yield record


def _rows(file: Any, delimiter: str) -> Iterator[dict[str, Any]]:
    first = file.readline()
    file.seek(0)
    if delimiter == "\t" and "#" in first.split("\t")[0]:
        for line in file:
            picture, _, caption = line.rstrip("\n").partition("\t")
            yield {"image": picture.rpartition("#")[0], "caption": caption}
    else:
        yield from csv.DictReader(file, delimiter=delimiter)
