"""webdataset and img2dataset tars, read where they lie: an index of offsets makes them random access.

`diptych index` writes the index of `shard.tar` to `shard.tar.index.npz` beside it; without one it is made in memory.
Local tars are memory-mapped and their pictures are slices of the map; others are read by byte range through fsspec.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import threading
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.storage import atomic_file
from diptych.core.visual import Image
from diptych.data.sources._captions import CAPTION_FIELDS, captions_of, plain_meta
from diptych.data.sources._tar_members import PICTURES, TEXTS, Member, scan

SUFFIX = ".index.npz"
_FORMAT = 1
_NO = -1


@dataclass(frozen=True)
class Shard:
    """The index of one tar; arrays have a row a sample.

    Attributes:
        endings: of each sample's picture.
        spans: [N, 4, 2], offset and size of picture, txt, json and cls; offset -1 where there is none.
        problems: reason -> keys of members that make no sample of their own.
        stamp: size and modification time of the tar, to notice a stale index.
    """

    path: str
    keys: list[str]
    endings: list[str]
    spans: NDArray[np.int64]
    problems: dict[str, list[str]]
    stamp: str


def index_of(path: str) -> Shard:
    """The index beside a tar when it is up to date, else a new one in memory.

    Raises:
        DataError: the tar is not there.
    """
    beside = Path(path + SUFFIX)
    if "://" not in path and beside.is_file():
        shard = _read_index(path, beside)
        if shard is not None and shard.stamp == stamp_of(path):
            return shard
    return make_index(path)


def make_index(path: str) -> Shard:
    """Walks a tar.

    Raises:
        DataError: it is not there.
    """
    stamp = stamp_of(path)
    with fsspec.open(path, "rb") as file:
        found = scan(file, int(stamp.split("-")[0]))
    shard = _grouped(path, found.members, stamp)
    if found.truncated:
        shard.problems.setdefault("truncated tar", []).append(path)
    return shard


def write_index(shard: Shard) -> Path:
    """Writes the index beside its tar.

    Raises:
        StorageError: the folder cannot be written.
    """
    target = Path(shard.path + SUFFIX)
    head = {"format": _FORMAT, "stamp": shard.stamp, "problems": shard.problems}
    with atomic_file(target) as part:
        with part.open("wb") as file:
            np.savez_compressed(
                file,
                head=np.frombuffer(json.dumps(head).encode(), np.uint8),
                keys=np.frombuffer("\n".join(shard.keys).encode(), np.uint8),
                endings=np.frombuffer("\n".join(shard.endings).encode(), np.uint8),
                spans=shard.spans,
            )
        part.chmod(0o644)
    return target


def _read_index(path: str, beside: Path) -> Shard | None:
    """An index as written; None for a damaged one or one of another format, which is made anew."""
    try:
        with np.load(beside) as arrays:
            head = json.loads(arrays["head"].tobytes())
            lists = [arrays[name].tobytes().decode() for name in ("keys", "endings")]
            spans: NDArray[np.int64] = arrays["spans"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if head.get("format") != _FORMAT:
        return None
    keys, endings = ([] if not len(spans) else text.split("\n") for text in lists)
    return Shard(path, keys, endings, spans, head["problems"], head["stamp"])


def stamp_of(path: str) -> str:
    """Size and modification time.

    Raises:
        DataError: not there.
    """
    try:
        if "://" not in path:
            status = Path(path).stat()
            return f"{status.st_size}-{status.st_mtime_ns}"
        info = fsspec.core.url_to_fs(path)[0].info(path)
    except FileNotFoundError as error:
        raise DataError(f"no tar at {path}") from error
    return f"{info['size']}-{info.get('mtime', info.get('LastModified', ''))}"


def _grouped(path: str, members: Sequence[Member], stamp: str) -> Shard:
    """Members of one key together; only those with a picture are samples."""
    samples: dict[str, dict[str, Member]] = {}
    problems: dict[str, list[str]] = {}
    for member in members:
        role = "picture" if member.ending in PICTURES else member.ending
        if role not in ("picture", *TEXTS):
            continue
        roles = samples.setdefault(member.key, {})
        if role in roles:
            problems.setdefault("duplicate key", []).append(member.key)
        else:
            roles[role] = member
    whole = {key: roles for key, roles in samples.items() if "picture" in roles}
    if without := [key for key in samples if key not in whole]:
        problems["no image"] = without
    spans = np.full((len(whole), 4, 2), _NO, np.int64)
    for row, roles in enumerate(whole.values()):
        for column, role in enumerate(("picture", *TEXTS)):
            if role in roles:
                spans[row, column] = roles[role].offset, roles[role].size
    endings = [roles["picture"].ending for roles in whole.values()]
    return Shard(path, list(whole), endings, spans, problems, stamp)


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
        self._fields = fields
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

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        """Of names, sizes, keys and where everything lies; not of times, so a copied tar is the same data."""
        parts = [
            f"{Path(shard.path).name} {shard.stamp.partition('-')[0]} {_digest(shard.keys, shard.spans)}"
            for shard in self._shards
        ]
        return f"{hash_to_int(*parts):016x}"

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
            None if offset == _NO else self._bytes(number, int(offset), int(size)) for offset, size in spans
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
            with fsspec.open(path, "rb") as file:
                file.seek(offset)
                return memoryview(file.read(size))
        mapped = self._maps.get(number)
        if mapped is None:
            mapped = self._map(number, path)
        return mapped[offset : offset + size]

    def _map(self, number: int, path: str) -> memoryview:
        with self._lock:
            if number not in self._maps:
                with open(path, "rb") as file:  # noqa: PTH123  (a Path would be made for each shard only to be opened)
                    self._maps[number] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return self._maps[number]


def _digest(keys: Sequence[str], spans: NDArray[np.int64]) -> str:
    digest = hashlib.blake2b("\n".join(keys).encode("utf-8", "surrogatepass"), digest_size=8)
    digest.update(spans.tobytes())
    return digest.hexdigest()


def _image(data: memoryview, ending: str, key: str) -> Image:
    if ending != "npy":
        return Image(encoded=data, name=key)
    try:
        header = io.BytesIO(data[:4096])
        version = np.lib.format.read_magic(header)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(header)
        pixels_HWC = np.frombuffer(data, dtype, offset=header.tell()).reshape(shape)
    except ValueError as error:
        raise BadSample(key, "truncated image", str(error)) from error
    if dtype != np.uint8 or fortran or len(shape) != 3 or shape[2] != 3:
        raise BadSample(key, "not an image", f"a raw member must be uint8 [H, W, 3], this is {dtype} {shape}")
    return Image(pixels_HWC=pixels_HWC, name=key)


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
