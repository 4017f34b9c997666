"""Pictures a second from disk to normalised batches: diptych's loader beside webdataset, litdata and ffcv.

Every side reads the same pictures, draws a random crop, resizes it to 224 pixels and hands out batches of 64 in
float32, normalised, with its captions where its format has them (diptych's are tokenised too). Sides run in turns, each
in a process of its own, because a side's idle workers would be in the others' way: a warm-up epoch, then the median of
three. Two workers each: processes of webdataset and litdata, threads of the others.

python benchmarks/loader.py --folder corpus --out benchmarks/results/loader.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from _corpus import write_corpus
from _loader_ours import BATCH, SIZE, Sides, ours, pack_raw
from _loader_peers import ffcv_sides, litdata_sides, webdataset_sides
from _measure import alternate, arguments, in_subprocess, rate, show, write
from _pixel_error import pixel_errors

SCALES = {"0.9-1": (0.9, 1.0), "0.08-1": (0.08, 1.0)}
BASELINE = "webdataset + PIL"
EPOCHS = 3


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus is made, about 1 GB; kept")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--crop", choices=SCALES, default="0.9-1", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    jpegs, _ = write_corpus(options.folder, options.count)
    if options.side:
        epoch = _sides(options.folder, options.count, options.crop, options.threads)[options.side]()
        count = epoch()
        return print(json.dumps({"images/s": rate(count, alternate({"": epoch}, EPOCHS, warm_up=0)[""])}))
    rows = [row for crop in SCALES for row in _rows(crop, options)]
    errors = pixel_errors(jpegs, SIZE)
    show("pixel error against PIL: full decode, antialiased bicubic", errors)
    return write(options.out, rows, pixel_errors=errors, workers=options.threads, batch=BATCH)


def _sides(folder: Path, count: int, crop: str, threads: int) -> Sides:
    jpegs, tars = write_corpus(folder, count)
    scale = SCALES[crop]
    return {
        **ours(tars, pack_raw(tars, folder / "raw256"), scale, threads),
        **webdataset_sides(tars, scale, threads),
        **litdata_sides(jpegs, folder / "litdata", scale, threads),
        **ffcv_sides(jpegs, folder / "ffcv", scale, threads),
    }


def _rows(crop: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Images a second of every side: the median over turns, and of its ratios to the baseline in the same turn."""
    names = list(_sides(options.folder, options.count, crop, options.threads))
    found: dict[str, list[float]] = {name: [] for name in names}
    shared = ("--folder", options.folder, "--count", options.count, "--threads", options.threads, "--crop", crop)
    for _ in range(options.repetitions):
        for name in names:
            found[name].append(in_subprocess(__file__, "--side", name, *shared)["images/s"])
    rows = []
    for name, rates in found.items():
        ratios = [own / base for own, base in zip(rates, found[BASELINE], strict=True)]
        row = {"side": name, "crop": crop, "images/s": statistics.median(rates), "ratio": statistics.median(ratios)}
        rows.append({**row, "slowest": min(rates), "fastest": max(rates)})
    show(f"{options.count} JPEGs of 500x375 to {SIZE}, crops of {crop} of the area", rows)
    return rows


if __name__ == "__main__":
    sys.exit(main())
