"""The index of one tar: where the members of each sample lie. Kept beside the tar, wherever that is."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError, StorageError
from diptych.core.storage import atomic_file
from diptych.data.sources._tar_members import PICTURES, TEXTS, Member, scan

SUFFIX = ".index.npz"
_FORMAT = 1
NONE = -1
"""The offset of what a sample does not have."""
_CHANGED = ("mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "created")
"""What file systems call the time, or the tag, that tells two versions of a file apart."""


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
        DataError: the tar is not there, or cannot be read.
    """
    shard = _read_index(path)
    if shard is not None and shard.stamp == stamp_of(path):
        return shard
    return make_index(path)


def make_index(path: str) -> Shard:
    """Walks a tar.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    stamp = stamp_of(path)
    with reading(path), fsspec.open(path, "rb") as file:
        found = scan(file, int(stamp.split("-")[0]))
    shard = _grouped(path, found.members, stamp)
    if found.truncated:
        shard.problems.setdefault("truncated tar", []).append(path)
    return shard


def write_index(shard: Shard) -> None:
    """Writes the index beside its tar.

    Raises:
        StorageError: the folder cannot be written.
    """
    target, data = shard.path + SUFFIX, _packed(shard)
    try:
        if "://" in target:
            with fsspec.open(target, "wb") as file:
                file.write(data)
        else:
            with atomic_file(Path(target)) as part:
                part.write_bytes(data)
                part.chmod(0o644)
    except (OSError, NotImplementedError) as error:
        raise StorageError(f"cannot write {target}: {error}") from error


def _packed(shard: Shard) -> bytes:
    head = {"format": _FORMAT, "stamp": shard.stamp, "problems": shard.problems}
    file = io.BytesIO()
    np.savez_compressed(
        file,
        head=np.frombuffer(json.dumps(head).encode(), np.uint8),
        keys=np.frombuffer("\n".join(shard.keys).encode(), np.uint8),
        endings=np.frombuffer("\n".join(shard.endings).encode(), np.uint8),
        spans=shard.spans,
    )
    return file.getvalue()


def _read_index(path: str) -> Shard | None:
    """An index as written; None where there is none, a damaged one or one of another format: it is made anew then."""
    try:
        with fsspec.open(path + SUFFIX, "rb") as file:
            data = io.BytesIO(file.read())
        with np.load(data) as arrays:
            head = json.loads(arrays["head"].tobytes())
            lists = [arrays[name].tobytes().decode() for name in ("keys", "endings")]
            spans: NDArray[np.int64] = arrays["spans"]
    except (OSError, ValueError, KeyError, EOFError, ImportError, zipfile.BadZipFile, zlib.error):
        return None
    if head.get("format") != _FORMAT:
        return None
    keys, endings = ([] if not len(spans) else text.split("\n") for text in lists)
    return Shard(path, keys, endings, spans, head["problems"], head["stamp"])


def stamp_of(path: str) -> str:
    """Size and modification time.

    Raises:
        DataError: not there, a folder, or it cannot be read.
    """
    with reading(path):
        if "://" not in path:
            status = Path(path).stat()
            return f"{status.st_size}-{status.st_mtime_ns}"
        system, inner = fsspec.core.url_to_fs(path)
        info = system.info(inner)
    if info.get("type") == "directory":
        raise DataError(f"{path} is a folder: name its tars, as in {path.rstrip('/')}/*.tar")
    changed = next((info[name] for name in _CHANGED if info.get(name)), "")
    return f"{info['size']}-{changed}"


@contextmanager
def reading(path: str) -> Iterator[None]:
    """One sentence for what keeps a tar, local or not, from being read."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"no tar at {path}") from error
    except (OSError, ValueError, ImportError) as error:  # an unknown protocol, or one whose package is missing
        raise DataError(f"cannot read {path}: {error}") from error


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
    spans = np.full((len(whole), 4, 2), NONE, np.int64)
    for row, roles in enumerate(whole.values()):
        for column, role in enumerate(("picture", *TEXTS)):
            if role in roles:
                spans[row, column] = roles[role].offset, roles[role].size
    endings = [roles["picture"].ending for roles in whole.values()]
    return Shard(path, list(whole), endings, spans, problems, stamp)
