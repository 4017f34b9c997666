"""Splits that the names of files tell apart: train, val, test, and other words for these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from diptych.core.errors import DataError

SPLITS = ("train", "val", "test")
ALL = "all"
_ALSO = {"t10k": "test", "validation": "val", "valid": "val", "dev": "val"}
"""Other words for a split: MNIST's files are named t10k."""


def of_split(paths: Sequence[str], split: str, where: str) -> list[str]:
    """The files whose name has the split as a word of its own; all of them when no name tells splits apart.

    Raises:
        DataError: the names tell splits apart, but not this one.
    """
    known = splits_of(paths)
    if split == ALL or not known:
        return list(paths)
    if split not in known:
        raise DataError(
            f"{where} has no split '{split}': its files are of {', '.join(known)}; choose one of these, or name files"
        )
    return [path for path in paths if split in _words(path)]


def splits_of(paths: Sequence[str]) -> list[str]:
    """The splits that the names tell apart."""
    words = {word for path in paths for word in _words(path)}
    return [name for name in SPLITS if name in words]


def names_of(split: str) -> list[str]:
    """The split's own name, then other words for it."""
    return [split, *(word for word, name in _ALSO.items() if name == split)]


def _words(path: str) -> set[str]:
    return {split_name(word) for word in re.split(r"[^a-z0-9]+", Path(path).name.lower())}


def split_name(word: str) -> str:
    """The split that a word stands for; the word itself where it stands for none."""
    return _ALSO.get(word, word)
