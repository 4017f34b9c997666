"""Features of a frozen tower, computed once and kept on disk.

A cache is given callables and knows nothing of towers. It is named by the hash of everything its rows depend on: the
tower's weights, the preprocessing, the source's fingerprint and the number format. Change one of them, and another
folder is used; nothing is ever stale.

<root>/<name>/cache.json          what the name is the hash of
<root>/<name>/block-00000.npy     rows [R, D] of one block of samples, memory-mapped when read
<root>/<name>/block-00000.json    their keys, rows a key, and the bad samples; written last, so it marks a whole block

R rows, K rows of one sample (views of a picture, captions), D feature width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from diptych.core.config import to_plain
from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.storage import atomic_file, write_text
from diptych.data.cached.feature_rows import FeatureRows, block_paths, read_block
from diptych.data.loading.row_filler import Bad, described

Item = TypeVar("Item")
Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Extraction(Generic[Item]):
    """How a sample becomes feature rows.

    Attributes:
        weights: a hash of the tower's weights (layers.weight_hash).
        preprocessing: plain values or dataclasses: all else that the rows depend on.
        prepare: called in threads; what `encode` needs of a sample. Raises BadSample.
        encode: called in the calling thread, with a whole block; for each item its rows [K, D].
        random: whether `prepare` or `encode` draws anything; such features cannot be cached.
    """

    weights: str
    preprocessing: Any
    prepare: Callable[[Sample], Item]
    encode: Callable[[Sequence[Item]], Sequence[Rows]]
    random: bool = False


def cached_features(
    root: Path,
    source: Source,
    extraction: Extraction[Item],
    *,
    dtype: Literal["float16", "float32"] = "float16",
    block: int = 512,
    threads: int = 2,
    bad_threshold: float = 0.05,
) -> FeatureRows:
    """The features of every sample of a source, from the cache as far as it has them.

    Interrupted at any moment, it loses at most the block it was at. While one block is encoded, threads prepare the
    next.

    Args:
        root: the folder of caches.
        block: samples a file.
        bad_threshold: the share of bad samples above which it stops.

    Raises:
        ConfigError: the extraction is random.
        DataError: too many bad samples, or a damaged cache.
        StorageError: the disk is full or the folder cannot be written.
    """
    if extraction.random:
        raise ConfigError(
            "features under random augmentation cannot be cached: every epoch would see the same draw; "
            "turn the views off, or train with an uncached tower"
        )
    description = {
        "weights": extraction.weights,
        "preprocessing": to_plain(extraction.preprocessing),
        "source": source.fingerprint(),
        "dtype": dtype,
        "block": block,
    }
    folder = root / cache_name(description)
    if not (folder / "cache.json").is_file():
        write_text(folder / "cache.json", json.dumps(description, indent=2) + "\n")
    blocks = range(-(-len(source) // block))
    missing = [number for number in blocks if not block_paths(folder, number)[1].is_file()]
    filled = _fill(folder, source, extraction, missing, block, threads, np.dtype(dtype))
    bad: list[Bad] = []
    for found in track(filled, f"features of {source.name}", len(missing), transient=True, disable=not missing):
        bad += found
        _check(bad, bad_threshold, source)
    rows = FeatureRows([read_block(folder, number) for number in blocks], folder.name)
    _check(rows.bad, bad_threshold, source)
    return rows


def cache_name(description: dict[str, Any]) -> str:
    """24 hex digits for what a cache depends on."""
    text = json.dumps(description, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _fill(
    folder: Path,
    source: Source,
    extraction: Extraction[Item],
    missing: Sequence[int],
    block: int,
    threads: int,
    dtype: np.dtype[Any],
) -> Iterator[list[Bad]]:
    """Writes the missing blocks; yields the bad samples of each. Threads are one block ahead."""
    pool = ThreadPoolExecutor(max(threads, 1), "features", initializer=torch.set_num_threads, initargs=(1,))
    keys = source.keys()

    def submit(number: int) -> list[tuple[str, Future[Item]]]:
        indices = range(number * block, min((number + 1) * block, len(source)))
        return [(keys[i], pool.submit(_prepared, extraction, source, i)) for i in indices]

    try:
        ahead = submit(missing[0]) if missing else []
        for place, number in enumerate(missing):
            current, ahead = ahead, submit(missing[place + 1]) if place + 1 < len(missing) else []
            good, items, bad = _gather(current)
            _write_block(folder, number, good, extraction.encode(items) if items else [], bad, dtype)
            yield bad
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepared(extraction: Extraction[Item], source: Source, index: int) -> Item:
    return extraction.prepare(source[index])


def _gather(pending: Sequence[tuple[str, Future[Item]]]) -> tuple[list[str], list[Item], list[Bad]]:
    """Keys and items that were prepared, and what was not."""
    keys, items, bad = [], [], []
    for key, future in pending:
        try:
            items.append(future.result())
            keys.append(key)
        except BadSample as error:
            bad.append(Bad(key, error.reason, error.detail, 0))
    return keys, items, bad


def _write_block(
    folder: Path, number: int, keys: Sequence[str], rows: Sequence[Rows], bad: Sequence[Bad], dtype: np.dtype[Any]
) -> None:
    """The rows, then the marker that names them."""
    assert len(keys) == len(rows), f"{len(keys)} samples were encoded to {len(rows)} groups of rows"
    flat_RD = np.concatenate(rows).astype(dtype) if rows else np.zeros((0, 0), dtype)
    data, marker = block_paths(folder, number)
    with atomic_file(data) as part, part.open("wb") as file:
        np.save(file, flat_RD)
    counts = [len(one) for one in rows]
    failures = [{"key": one.key, "reason": one.reason, "detail": one.detail} for one in bad]
    write_text(marker, json.dumps({"keys": list(keys), "counts": counts, "bad": failures}) + "\n")


def _check(bad: Sequence[Bad], threshold: float, source: Source) -> None:
    """Raises a DataError when more than this share of the whole source is bad."""
    if len(bad) > threshold * len(source):
        raise DataError(
            f"{source.name}: {len(bad)} of {len(source)} samples have no features, more than {threshold:.0%}: "
            f"{described(bad)}"
        )
