"""Index tars of pictures and captions, so that they can be read in any order where they lie."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.data.sources._tar_index import Shard
    from diptych.data.sources.tar import TarSource

_LOOKED_AT = 100
"""How many samples are read to say whether there are captions."""


def main(arguments: list[str]) -> int:
    """`diptych index PATH...`: tars, folders of tars, or patterns; writes an index beside each tar."""
    parser = argparse.ArgumentParser(prog="diptych index", description=__doc__)
    parser.add_argument("paths", nargs="+", help="tars, folders of tars, or patterns; local, s3://..., gs://...")
    parser.add_argument("--captions", metavar="FIELD", help="of the .json members, when it has another name than usual")
    options = parser.parse_args(arguments)

    from diptych.core.errors import DataError
    from diptych.data.sources._captions import CAPTION_FIELDS
    from diptych.data.sources.tar import TarSource

    tars = [tar for path in options.paths for tar in _tars(path)]
    fields = (options.captions,) if options.captions else CAPTION_FIELDS
    source = TarSource(tars, fields, indices=_indexed(tars))
    print(f"{len(source):,} samples in {len(tars):,} tar{'' if len(tars) == 1 else 's'}")
    for reason, keys in source.problems.items():
        print(f"{reason}: {len(keys):,} ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})")
    if len(source) == 0:
        raise DataError(f"no pictures in {', '.join(options.paths)}")
    _tell_captions(source, fields)
    return 0


def _tars(path: str) -> list[str]:
    """What a path, a folder or a pattern names.

    Raises:
        DataError: nothing.
    """
    from diptych.core.errors import DataError
    from diptych.data.patterns import expand, is_pattern

    if Path(path).is_dir():
        found = sorted(map(str, Path(path).rglob("*.tar")))
        if not found:
            raise DataError(f"no tar below {path}")
        return found
    return expand(path) if is_pattern(path) else [path]


def _indexed(tars: Sequence[str]) -> list[Shard]:
    """Writes every index; a tar that is not there is told before the first is written."""
    from rich.progress import track

    from diptych.core.errors import StorageError
    from diptych.data.sources._tar_index import make_index, stamp_of, write_index

    for tar in tars:
        stamp_of(tar)
    shards = []
    for tar in track(tars, description="indexing"):
        shard = make_index(tar)
        try:
            write_index(shard)
        except StorageError as error:
            raise StorageError(
                f"{error}; the tars can be read all the same: without an index beside it, each is walked when opened"
            ) from error
        shards.append(shard)
    return shards


def _tell_captions(source: TarSource, fields: Sequence[str]) -> None:
    """How many of the first samples have captions.

    Raises:
        DataError: none of them has a caption or a class.
    """
    from diptych.core.errors import DataError
    from diptych.core.processor import BadSample

    count = min(len(source), _LOOKED_AT)
    found: Counter[str] = Counter()
    others: dict[str, None] = {}
    for index in range(count):
        try:
            sample = source[index]
        except BadSample as error:
            found[error.reason] += 1
            continue
        found["with captions" if sample.texts else "with a class" if "class" in sample.meta else "with neither"] += 1
        others |= dict.fromkeys(sample.meta)
    print(f"of the first {count}: " + ", ".join(f"{n} {what}" for what, n in found.items()))
    if not found["with captions"] and not found["with a class"]:
        there = f", which have the fields {', '.join(list(others)[:8])}" if others else ""
        raise DataError(
            f"no captions in the first {count} samples: looked for .txt members and for {', '.join(fields)} in .json "
            f"members{there}; --captions FIELD names another (the index is written)"
        )
