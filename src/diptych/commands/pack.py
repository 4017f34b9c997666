"""Write any data as plain tars again, pictures made small, as JPEG or as raw arrays."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """`diptych pack SRC DST --size 256 --format raw`; the same command continues an interrupted pack."""
    parser = argparse.ArgumentParser(prog="diptych pack", description=__doc__)
    parser.add_argument("source", help="tars, a folder, a table, parquet, hf:org/name, scenes: what --data takes")
    parser.add_argument("folder", type=Path, help="where the tars go; new, empty, or an interrupted pack")
    parser.add_argument("--split", default="all", help="of the source; the shards are named for it (default all)")
    parser.add_argument("--format", choices=("jpeg", "raw"), default="jpeg", help="raw: uint8 arrays, not compressed")
    parser.add_argument("--size", type=int, default=0, help="side in pixels of larger pictures (default: as they are)")
    parser.add_argument("--side", choices=("shorter", "longest"), default="shorter", help="which side --size is")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEGs (default 90)")
    parser.add_argument("--per-shard", type=int, default=1000, help="samples a tar (default 1000)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from diptych.core.errors import ConfigError
    from diptych.data._pack_members import PictureFormat
    from diptych.data.open import open_source
    from diptych.data.pack import Pack
    from diptych.data.split_names import ALL

    where = Path(options.source.partition("?")[0])
    if where.is_dir() and options.folder.resolve().is_relative_to(where.resolve()):
        raise ConfigError(f"{options.folder} lies inside the source {where}: name a folder outside of it")
    pack = Pack(
        open_source(options.source, options.split),
        options.folder,
        PictureFormat(options.format, options.size, options.side, options.quality),
        "shard" if options.split == ALL else options.split,
        options.per_shard,
        options.threads,
    )
    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("packing", total=len(pack.source))
        report = pack.run(lambda samples: bar.advance(task, samples))
    if report.kept:
        print(f"continued: {report.kept} of {report.shards} shards were there")
    print(f"{report.samples:,} samples packed; {report.shards} shards, {report.bytes / 1e6:,.1f} MB in {pack.folder}")
    if report.bad:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(report.bad.items()))
        print(f"{report.bad.total()} left out: {reasons}; named in {pack.bad_log}")
    return 0
