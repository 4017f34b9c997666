"""Names that stand for several files, here or elsewhere: *, [...], {000..011} and what fsspec reads."""

from __future__ import annotations

import glob
import re
from pathlib import Path

import fsspec

from diptych.core.errors import DataError
from diptych.data.sources._tar_index import reading


def is_pattern(where: str) -> bool:
    """Whether it names several files, or files that are not local; a folder may be called "photos [1]"."""
    return "://" in where or (any(mark in where for mark in "*[{") and not Path(where).exists())


def expand(pattern: str) -> list[str]:
    """The files of a pattern: *, [...] and {000..011}."""
    ranged = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if ranged:
        low, high = ranged.groups()
        numbers = [f"{i:0{len(low)}d}" for i in range(int(low), int(high) + 1)]
        return [name for i in numbers for name in expand(pattern[: ranged.start()] + i + pattern[ranged.end() :])]
    if "://" in pattern:
        if not any(mark in pattern for mark in "*["):
            return [pattern]
        with reading(pattern):
            files = fsspec.open_files(pattern)
        found = [file.fs.unstrip_protocol(file.path) for file in files]
    else:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  (absolute patterns)
    if not found:
        raise DataError(f"no file matches {pattern}")
    return found
