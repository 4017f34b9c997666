"""A few pictures of every class."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.data.derived.subset import Subset


def classes_of(source: Source) -> dict[str, list[int]]:
    """Class -> the places of its samples, classes in order of the alphabet; bad and unlabelled samples are left out."""
    found: dict[str, list[int]] = {}
    for index in range(len(source)):
        try:
            name = source[index].meta.get("class")
        except BadSample:
            continue
        if name is not None:
            found.setdefault(str(name), []).append(index)
    if len(found) < 2:
        raise DataError(f"{source.name} has {len(found)} class(es): name data whose samples are of two or more")
    return dict(sorted(found.items()))


def shots(source: Source, count: int, seed: int, places: dict[str, list[int]] | None = None) -> Subset:
    """`count` samples of each class, those whose keys hash lowest with the seed: more shots keep those of fewer.

    Args:
        places: `classes_of(source)`, where it is known already.

    Raises:
        ConfigError: no shots are asked for.
        DataError: a class has fewer samples; it is named.
    """
    if count < 1:
        raise ConfigError(f"shots {count}: give 1 or more pictures a class")
    keys, chosen = source.keys(), list[int]()
    for name, indices in (places or classes_of(source)).items():
        if len(indices) < count:
            raise DataError(
                f"{source.name} has {len(indices)} of class '{name}', fewer than {count} shots: ask for fewer"
            )
        chosen += _lowest(keys, indices, count, seed)
    return Subset(source, chosen, f"{source.name} ({count} of each class)")


def _lowest(keys: Sequence[str], indices: Sequence[int], count: int, seed: int) -> list[int]:
    return sorted(indices, key=lambda index: hash_to_int("shots", seed, keys[index]))[:count]
