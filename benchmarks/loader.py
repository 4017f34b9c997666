"""Pictures a second from disk to normalised batches: diptych's loader beside webdataset, litdata and ffcv.

Every side reads the same pictures, draws a random crop, resizes it to 224 pixels and hands out batches of 64 in
float32, normalised, with its captions where its format has them (diptych's are tokenised too). Sides run in turns in
one process; each starts its epoch cold. Two workers each: processes of webdataset and litdata, threads of the others.

python benchmarks/loader.py --folder /tmp/corpus --out benchmarks/results/loader.json
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from _corpus import write_corpus
from _loader_ours import SIZE, ours, pack_raw
from _loader_peers import ffcv_sides, litdata_sides, webdataset_sides
from _measure import alternate, arguments, rate, show, write
from _pixel_error import pixel_errors

SCALES = ((0.9, 1.0), (0.08, 1.0))
BASELINE = "webdataset + PIL"

Side = Callable[[], int]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus is made, about 1 GB; kept")
    parser.add_argument("--count", type=int, default=3000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    jpegs, tars = write_corpus(options.folder, options.count)
    raw = pack_raw(tars, options.folder / "raw256")
    rows = []
    for scale in SCALES:
        sides: dict[str, Side] = {
            **ours(tars, raw, scale, options.threads),
            **webdataset_sides(tars, scale, options.threads),
            **litdata_sides(jpegs, options.folder / "litdata", scale, options.threads),
            **ffcv_sides(jpegs, options.folder / "ffcv", scale, options.threads),
        }
        seconds = alternate(sides, options.repetitions)
        counts = {name: side() for name, side in sides.items()}
        baseline = rate(counts[BASELINE], seconds[BASELINE])
        for name, found in seconds.items():
            images = rate(counts[name], found)
            ratios = [base / own for base, own in zip(seconds[BASELINE], found, strict=True)]
            paired = statistics.median(ratios) * counts[name] / counts[BASELINE]
            row = {"side": name, "crop": f"{scale[0]}-{scale[1]}", "images/s": images, "ratio": images / baseline}
            rows.append({**row, "ratio by turn": paired, "slowest": rate(counts[name], [max(found)])})
        show(f"{options.count} JPEGs of 500x375 to {SIZE}, crops of {scale[0]}-{scale[1]} of the area", rows)
    errors = pixel_errors(jpegs, SIZE)
    show("pixel error against PIL: full decode, antialiased bicubic", errors)
    write(options.out, rows, pixel_errors=errors, workers=options.threads, batch=64)


if __name__ == "__main__":
    sys.exit(main())
