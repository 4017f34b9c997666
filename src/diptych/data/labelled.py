"""Labelled data in two parts, to learn from and to test on."""

from __future__ import annotations

from typing import NamedTuple

from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.data.derived.subset import hash_split
from diptych.data.open import has_training_split, open_source

TEST_SALT = "few-shot test"


class Labelled(NamedTuple):
    """Both parts of a source whose samples have classes."""

    train: Source
    test: Source


def labelled_parts(reference: str, test: str, test_share: float) -> Labelled:
    """Training and test parts: by the names of files or folders where they tell, else by a hash of the key.

    Args:
        test: the split that is reported.
        test_share: of the pictures, where they are parted by a hash.

    Raises:
        DataError: nothing there, or nothing of that split.
    """
    where = reference.partition("?")[0]
    if where == "scenes" or where.startswith("hf:") or has_training_split(reference, test):
        return Labelled(open_source(reference, "train"), open_source(reference, test))
    if not 0 < test_share < 1:
        raise ConfigError(f"test_share {test_share} leaves no pictures for one of both parts: give 0 to 1, such as 0.5")
    return Labelled(*hash_split(open_source(reference), test_share, TEST_SALT))
