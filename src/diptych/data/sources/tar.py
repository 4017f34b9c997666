"""webdataset and img2dataset tars, read where they lie: an index of offsets makes them random access.

Local tars are memory-mapped and their pictures are slices of the map; others are read by byte range through fsspec.
"""

from __future__ import annotations

import io
import json
import mmap
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.sources._captions import CAPTION_FIELDS, captions_of, plain_meta
from diptych.data.sources._content import digest_of, file_digest
from diptych.data.sources._tar_index import NONE, Shard, index_of, reading


class TarSource:
    """Samples of several tars.

    Attributes:
        problems: reason -> keys, what indexing noticed.
    """

    def __init__(
        self,
        paths: Sequence[str],
        fields: Sequence[str] = CAPTION_FIELDS,
        name: str = "",
        indices: Sequence[Shard] = (),
    ) -> None:
        self.name = name or ", ".join(paths[:2])
        self._fields, self._fingerprint = fields, ""
        self._shards = list(indices) or [index_of(path) for path in paths]
        self._starts = np.cumsum([0, *(len(shard.keys) for shard in self._shards)])
        self._maps: dict[int, memoryview] = {}
        self._lock = threading.Lock()
        self.problems: dict[str, list[str]] = {}
        for shard in self._shards:
            for reason, keys in shard.problems.items():
                self.problems.setdefault(reason, []).extend(keys)
        self._keys, self._rows = self._distinct()

    def _distinct(self) -> tuple[list[str], NDArray[np.int64]]:
        """Keys over all shards: a key that a second shard repeats is counted and left out."""
        keys = [key for shard in self._shards for key in shard.keys]
        first: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key in first:
                self.problems.setdefault("duplicate key", []).append(key)
            else:
                first[key] = row
        return list(first), np.fromiter(first.values(), np.int64, len(first))

    @property
    def num_shards(self) -> int:
        """How many tars there are."""
        return len(self._shards)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        """Of names, sizes, keys, where everything lies, the fields that captions come from, and pieces of local tars.

        Not of times, so a copied tar is the same data.
        """
        if not self._fingerprint:
            parts: list[str | bytes] = [*self._fields]
            for shard in self._shards:
                parts += ["", Path(shard.path).name, shard.stamp.partition("-")[0], *shard.keys, shard.spans.tobytes()]
                if "://" not in shard.path:
                    parts.append(file_digest(Path(shard.path)))
            self._fingerprint = digest_of(parts)
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        """The sample; its picture is a slice of the mapped tar.

        Raises:
            BadSample: "undecodable text" or "bad json".
        """
        row = int(self._rows[index])
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        shard, local = self._shards[number], row - int(self._starts[number])
        key, spans = shard.keys[local], shard.spans[local]
        picture, text, plain, label = (
            None if offset == NONE else self._bytes(number, int(offset), int(size)) for offset, size in spans
        )
        assert picture is not None
        meta = _json(plain, key)
        texts = (_text(text, key),) if text is not None else captions_of(meta, self._fields)
        extra = plain_meta(meta, self._fields)
        if label is not None:
            extra["class"] = _text(label, key).strip()
        elif not texts and "/" in key and "class" not in extra:
            extra["class"] = key.split("/")[-2]
        return Sample(key, (_image(picture, shard.endings[local], key),), texts, meta=extra)

    def _bytes(self, number: int, offset: int, size: int) -> memoryview:
        path = self._shards[number].path
        if "://" in path:
            with reading(path), fsspec.open(path, "rb") as file:
                file.seek(offset)
                return memoryview(file.read(size))
        mapped = self._maps.get(number)
        if mapped is None:
            mapped = self._map(number, path)
        return mapped[offset : offset + size]

    def _map(self, number: int, path: str) -> memoryview:
        with self._lock:
            if number not in self._maps:
                with reading(path), Path(path).open("rb") as file:
                    self._maps[number] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return self._maps[number]


def _image(data: memoryview, ending: str, key: str) -> Image:
    if ending != "npy":
        return Image(encoded=data, name=key)
    try:
        length = 10 + int.from_bytes(data[8:10], "little")
        shape, fortran, dtype = _raw_header(bytes(data[:length]))
        pixels_HWC = np.frombuffer(data, dtype, offset=length).reshape(shape)
    except ValueError as error:
        raise BadSample(key, "truncated image", str(error)) from error
    if dtype != np.uint8 or fortran or len(shape) != 3 or shape[2] != 3:
        raise BadSample(key, "not an image", f"a raw member must be uint8 [H, W, 3], this is {dtype} {shape}")
    return Image(pixels_HWC=pixels_HWC, name=key)


@lru_cache(maxsize=4096)
def _raw_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether Fortran's order, and kind; remembered, since parsing one takes longer than reading its pixels.

    Raises:
        ValueError: not the header of an .npy file of version 1, which is what arrays of pixels have.
    """
    file = io.BytesIO(header)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an .npy file of version {version[0]}.{version[1]}, not 1.0")
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = np.lib.format.read_array_header_1_0(file)
    return found


def _text(data: memoryview, key: str) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSample(key, "undecodable text", str(error)) from error


def _json(data: memoryview | None, key: str) -> Mapping[str, Any]:
    if data is None:
        return {}
    try:
        found = json.loads(_text(data, key))
    except ValueError as error:
        raise BadSample(key, "bad json", str(error)) from error
    if not isinstance(found, dict):
        raise BadSample(key, "bad json", "not an object")
    return found
