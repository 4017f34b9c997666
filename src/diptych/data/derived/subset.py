"""Parts of a source: by position, by a file of keys, by a hash of the key."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.core.errors import DataError
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int, unit_interval
from diptych.core.source import Source


class Subset:
    """Some positions of a source, in the order given; nothing is read or copied to make one."""

    def __init__(self, source: Source, indices: Iterable[int], name: str = "") -> None:
        self._source, self._indices = source, list(indices)
        self.name = name or f"{source.name} ({len(self._indices):,} of {len(source):,})"

    @property
    def whole(self) -> Source:
        """What this is a part of."""
        return self._source

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._source[self._indices[index]]

    def keys(self) -> Sequence[str]:
        keys = self._source.keys()
        return [keys[i] for i in self._indices]

    def fingerprint(self) -> str:
        return f"{hash_to_int(self._source.fingerprint(), *self._indices):016x}"


def read_keys(path: Path) -> list[str]:
    """A file of keys, one a line, gzipped where its name ends in .gz; repeated, blank and commented (#) lines are none.

    Raises:
        DataError: not there, not readable as text, or no key in it.
    """
    try:
        data = path.read_bytes()
        lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").split("\n")
    except FileNotFoundError as error:
        raise DataError(f"no file of keys at {path}") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} is no file of keys: {error}") from error
    keys = list(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
    if not keys:
        raise DataError(f"{path} holds no keys")
    return keys


def select_keys(source: Source, keys: Sequence[str]) -> Subset:
    """The samples with these keys, in this order.

    Raises:
        DataError: a key that the source does not have; the first is named, with how many there are.
    """
    positions = {key: index for index, key in enumerate(source.keys())}
    if unknown := [key for key in keys if key not in positions]:
        raise unknown_keys(source, unknown, len(keys))
    return Subset(source, [positions[key] for key in keys])


def unknown_keys(source: Source, unknown: Sequence[str], listed: int) -> DataError:
    """The error for keys that the data lack."""
    return DataError(f"{source.name} has no sample '{unknown[0]}' ({len(unknown)} of {listed} keys are unknown)")


def hash_split(source: Source, fraction: float, salt: str = "held out") -> tuple[Subset, Subset]:
    """(the rest, a held-out part of about `fraction`), by a hash of each key: adding data moves no sample."""
    held = [unit_interval(salt, key) < fraction for key in source.keys()]
    rest = [index for index, out in enumerate(held) if not out]
    return Subset(source, rest), Subset(source, [index for index, out in enumerate(held) if out])


def hold_out(source: Source, count: int, salt: str = "held out") -> tuple[Subset, Subset]:
    """(the rest, exactly `count` samples), those whose keys have the smallest hashes.

    Raises:
        DataError: the source has no more than `count` samples.
    """
    if count >= len(source):
        raise DataError(f"cannot hold {count} samples out of {source.name}, which has {len(source)}")
    keys = source.keys()
    order = sorted(range(len(keys)), key=lambda index: hash_to_int(salt, keys[index]))
    held = set(order[:count])
    return Subset(source, [i for i in range(len(keys)) if i not in held]), Subset(source, sorted(held))
