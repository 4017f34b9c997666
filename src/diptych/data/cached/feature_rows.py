"""Cached feature rows by sample key, memory-mapped.

R rows of a block, K rows of one sample, D feature width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.data.loading.row_filler import Bad

Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Block:
    """Rows of consecutive samples.

    Attributes:
        keys, counts: the samples and how many rows each has, in order.
        rows_RD: all rows.
        bad: samples that have none.
    """

    keys: Sequence[str]
    counts: Sequence[int]
    rows_RD: Rows
    bad: Sequence[Bad] = ()


class FeatureRows(Mapping[str, Rows]):
    """Sample key -> its rows [K, D]; thread-safe.

    Attributes:
        name: of the cache: changes when anything the rows depend on does.
        bad: samples without features, with reasons.
        width: D.
    """

    def __init__(self, blocks: Sequence[Block], name: str = "") -> None:
        self.name = name
        self.bad = [one for block in blocks for one in block.bad]
        self._reasons = {one.key: one for one in self.bad}
        self._places: dict[str, Rows] = {}
        for block in blocks:
            ends = np.cumsum(block.counts)
            for key, end, count in zip(block.keys, ends, block.counts, strict=True):
                self._places[key] = block.rows_RD[end - count : end]
        widths = {rows.shape[1] for rows in self._places.values()}
        if len(widths) != 1:
            raise DataError(f"the feature cache {name} has no rows, or rows of different widths: {sorted(widths)}")
        self.width = int(widths.pop())

    def __getitem__(self, key: str) -> Rows:
        return self._places[key]

    def __iter__(self) -> Any:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def row(self, key: str, choice: int = 0) -> NDArray[Any]:
        """[D]: one row of a sample, number `choice` modulo how many it has.

        Raises:
            BadSample: it has no features, for the reason found when they were computed.
        """
        rows_KD = self._places.get(key)
        if rows_KD is None or not len(rows_KD):
            bad = self._reasons.get(key)
            raise BadSample(key, bad.reason if bad else "no features", bad.detail if bad else "not in the cache")
        row_D: NDArray[Any] = rows_KD[choice % len(rows_KD)]
        return row_D


def block_paths(folder: Path, number: int) -> tuple[Path, Path]:
    """A block's rows, and the marker that is written last."""
    return folder / f"block-{number:05d}.npy", folder / f"block-{number:05d}.json"


def read_block(folder: Path, number: int) -> Block:
    """A whole block, its rows memory-mapped.

    Raises:
        DataError: a file is missing, damaged, or they do not fit each other.
    """
    data, marker = block_paths(folder, number)
    try:
        plain = json.loads(marker.read_text(encoding="utf-8"))
        keys, counts = list(plain["keys"]), [int(count) for count in plain["counts"]]
        bad = [Bad(one["key"], one["reason"], one["detail"], 0) for one in plain["bad"]]
        rows_RD = np.load(data, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {error}") from error
    if len(keys) != len(counts) or len(rows_RD) != sum(counts):
        raise _damaged(folder, f"{data.name} has other rows than its marker says")
    return Block(keys, counts, rows_RD, bad)


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f"the feature cache {folder} is damaged ({what}): delete it to compute it again")
