"""Hashes of files, for fingerprints: cheap, and never of times, so that a copy is the same data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PIECE = 4096


def digest_of(parts: Iterable[str | bytes]) -> str:
    """16 hex digits of the parts; where one ends and the next begins counts."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def file_digest(path: Path, pieces: int = 64) -> str:
    """A hash of a file's size and of pieces of 4 KiB evenly over it; of all of a small file.

    A compressed file cannot change without changing its size or its end, and rows cannot change places in a table
    without changing most of it.

    Args:
        pieces: how many, the first and the last included.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, 2)
            if size <= pieces * _PIECE:
                file.seek(0)
                return digest_of([str(size), file.read()])
            parts = [str(size).encode()]
            for number in range(pieces):
                file.seek((size - _PIECE) * number // (pieces - 1))
                parts.append(file.read(_PIECE))
            return digest_of(parts)
    except OSError:
        return "missing"


def files_digest(paths: Sequence[Path]) -> str:
    """A hash of many small files: of each its size, its beginning and its end."""
    with ThreadPoolExecutor(8) as pool:  # the time goes into waiting for a disk or a network
        return digest_of(pool.map(_ends, paths, chunksize=256))


def _ends(path: Path) -> str:
    return file_digest(path, 2)
