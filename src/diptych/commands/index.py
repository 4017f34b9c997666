"""Index tars of pictures and captions, so that they can be read in any order where they lie."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int:
    """`diptych index PATH...`: tars, folders of tars, or patterns; writes an index beside each tar."""
    parser = argparse.ArgumentParser(prog="diptych index", description=__doc__)
    parser.add_argument("paths", nargs="+", help="tars, folders of tars, or patterns")
    options = parser.parse_args(arguments)

    from collections import Counter
    from pathlib import Path

    from rich.progress import track

    from diptych.core.errors import DataError
    from diptych.data.sources._tar_index import make_index, write_index
    from diptych.data.sources.tar import TarSource

    tars: list[str] = []
    for path in options.paths:
        found = sorted(map(str, Path(path).rglob("*.tar"))) if Path(path).is_dir() else [path]
        if not found:
            raise DataError(f"no tar below {path}")
        tars += found
    shards = []
    for tar in track(tars, description="indexing"):
        shard = make_index(tar)
        write_index(shard)
        shards.append(shard)
    source = TarSource(tars, indices=shards)
    with_caption = Counter(
        "with captions" if source[i].texts else "without captions" for i in range(min(len(source), 100))
    )
    print(f"{len(source):,} samples in {len(tars):,} tars")
    print(f"of the first {min(len(source), 100)}: " + ", ".join(f"{n} {what}" for what, n in with_caption.items()))
    for reason, keys in source.problems.items():
        print(f"{reason}: {len(keys):,} ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})")
    if len(source) == 0:
        raise DataError(f"no pictures in {', '.join(options.paths)}")
    return 0
