"""Parquet files with a picture column (bytes, or a struct of bytes and path) and captions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.sources._captions import CAPTION_FIELDS, captions_of, plain_meta
from diptych.data.sources._content import digest_of, file_digest
from diptych.data.sources.table import read_picture

_PICTURE_COLUMNS = ("image", "jpg", "png", "image_bytes", "bytes", "image_path", "filename", "file_name", "path")
_KEY_COLUMNS = ("key", "id", "uid")
_CACHED_GROUPS = 8


class ParquetSource:
    """Random access by row group; the last few are kept in memory."""

    def __init__(self, files: Sequence[Path], fields: Sequence[str] = CAPTION_FIELDS) -> None:
        self.name = str(files[0] if len(files) == 1 else files[0].parent)
        self.problems: dict[str, list[str]] = {}
        self._files, self._fields, self._fingerprint = list(files), fields, ""
        try:
            readers = [pq.ParquetFile(file) for file in files]
        except pa.ArrowInvalid as error:
            raise DataError(f"{self.name} is truncated or no parquet file: {error}") from error
        names = readers[0].schema_arrow.names
        self._picture = next((name for name in _PICTURE_COLUMNS if name in names), "")
        if not self._picture:
            raise DataError(
                f"{self.name}: no column holds a picture; expected one of {', '.join(_PICTURE_COLUMNS)}, "
                f"found {', '.join(names)}"
            )
        key = next((name for name in _KEY_COLUMNS if name in names), None)
        self._check_columns(readers, (self._picture, *([key] if key else [])))
        self._groups = [(f, g) for f, reader in enumerate(readers) for g in range(reader.num_row_groups)]
        rows = [readers[f].metadata.row_group(g).num_rows for f, g in self._groups]
        self._starts = np.cumsum([0, *rows])
        self._keys = [str(k) for reader in readers for k in reader.read([key])[key].to_pylist()] if key else [
            f"{files[f].stem}-{i:08d}" for f, reader in enumerate(readers) for i in range(reader.metadata.num_rows)
        ]  # fmt: skip
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def _check_columns(self, readers: Sequence[pq.ParquetFile], needed: Sequence[str]) -> None:
        for file, reader in zip(self._files, readers, strict=True):
            for name in needed:
                if name not in reader.schema_arrow.names:
                    raise DataError(f"{file} has no column '{name}', which {self._files[0].name} has")

    def __len__(self) -> int:
        return int(self._starts[-1])

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        """Of the files' names and content, keys and the fields that captions come from; not of pictures elsewhere."""
        if not self._fingerprint:
            files = [part for file in self._files for part in (file.name, file_digest(file))]
            self._fingerprint = digest_of([*files, *self._fields, "", *self._keys])
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        """The row; its picture stays encoded.

        Raises:
            BadSample: "no image", "missing image", or "unreadable row" where the file is damaged.
        """
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        local = index - int(self._starts[number])
        key = self._keys[index]
        try:
            record: Mapping[str, Any] = self._group(number).slice(local, 1).to_pylist()[0]
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise BadSample(key, "unreadable row", str(error)) from error
        folder = self._files[self._groups[number][0]].parent
        image = picture_of(record[self._picture], key, folder)
        return Sample(key, (image,), captions_of(record, self._fields),
                      meta=plain_meta(record, (*self._fields, self._picture)))  # fmt: skip

    def _group(self, number: int) -> pa.Table:
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
            file, group = self._groups[number]
            table = pq.ParquetFile(self._files[file]).read_row_group(group)
            self._cache[number] = table
            if len(self._cache) > _CACHED_GROUPS:
                self._cache.popitem(last=False)
            return table


def picture_of(value: Any, key: str, folder: Path) -> Image:
    """A cell as a picture: bytes, {"bytes", "path"} as Hugging Face datasets write it, or a path.

    Raises:
        BadSample: "no image" or "missing image".
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return Image(encoded=value, name=key)
    if isinstance(value, str) and value:
        return read_picture(folder / value, key)
    raise BadSample(key, "no image")
