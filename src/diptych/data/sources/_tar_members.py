"""The members of a tar without its contents: names, where their bytes lie, and how long they are."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "npy")
"""Endings of pictures; `npy` are raw uint8 arrays [H, W, 3], as `diptych pack --format raw` writes them."""
TEXTS = ("txt", "json", "cls")
KEY_RECORD = "DIPTYCH.key"
"""The extended header (PAX) of a member whose key no file name can spell, such as one with a dot in it."""


@dataclass(frozen=True)
class Member:
    """A file in a tar.

    Attributes:
        key: its path up to the first dot of the last component: what the files of one sample share.
        ending: what follows that dot, in lower case.
        offset, size: of its bytes in the tar.
    """

    key: str
    ending: str
    offset: int
    size: int


@dataclass(frozen=True)
class Scan:
    """A tar's members in order, and whether it broke off."""

    members: list[Member]
    truncated: bool


def scan(file: IO[bytes], length: int) -> Scan:
    """Walks the headers of a tar; contents are skipped over.

    A tar that breaks off gives what is whole before the break.

    Args:
        file: opened for reading, seekable.
        length: of the file in bytes.
    """
    members: list[Member] = []
    if length == 0:
        return Scan(members, truncated=False)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                if not info.isfile():
                    continue
                if info.offset_data + info.size > length:
                    return Scan(members, truncated=True)
                key, ending = split_name(info.name)
                key = info.pax_headers.get(KEY_RECORD, key)
                members.append(Member(key, ending, info.offset_data, info.size))
            whole = _ends_in_zeros(file, length)
    except (tarfile.ReadError, EOFError):
        return Scan(members, truncated=True)
    return Scan(members, truncated=not whole)


def _ends_in_zeros(file: IO[bytes], length: int) -> bool:
    """A whole tar ends with zero blocks."""
    file.seek(max(0, length - 512))
    return not any(file.read(512))


def split_name(name: str) -> tuple[str, str]:
    """Key and ending of a member, as webdataset has them: the first dot of the last component parts them."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    folder = "" if path.parent == PurePosixPath(".") else f"{path.parent}/"
    return f"{folder}{stem}".removeprefix("./"), ending.lower()
