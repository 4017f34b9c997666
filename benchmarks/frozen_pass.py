"""A frozen image tower over many pictures: diptych beside transformers' eager pass as shipped.

Each side runs in processes of its own, in turns, because settings of the allocator hold for a whole process; a row of
its own gives the peer the same settings. Reading and resizing are not part of it: both get the same pixels, ours as
uint8. The cosine is of our features with transformers' float32 ones.

python benchmarks/frozen_pass.py --weights MOBILENET_V2_FOLDER --out benchmarks/results/frozen_pass.json
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from _corpus import photograph
from _measure import arguments, in_subprocess, show, write
from diptych.core.allocator import keep_large_blocks
from diptych.data.pixels.tower_inputs import read_tower_images
from diptych.layers.backbone_folder import read_backbone
from diptych.layers.frozen_pass import FrozenPass
from diptych.layers.pretrained import ImageTower

SIDES = ("transformers", "transformers, our allocator settings", "diptych, float32", "diptych, bfloat16")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--weights", type=Path, required=True, help="a transformers folder of an image tower")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        return _one_side(options)
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repetitions):
            for index, side in enumerate(SIDES):
                features = Path(folder) / f"{index}.npy"
                shared = ("--weights", options.weights, "--count", options.count, "--batch", options.batch)
                found = in_subprocess(
                    __file__, "--side", side, "--features", features, "--threads", options.threads, *shared
                )
                rates[side].append(found["images/s"])
        cosines = [_cosines(Path(folder) / "0.npy", Path(folder) / f"{index}.npy") for index in range(len(SIDES))]
    rows = []
    for side, (mean, least) in zip(SIDES, cosines, strict=True):
        turns = [own / base for own, base in zip(rates[side], rates[SIDES[0]], strict=True)]
        row = {"side": side, "images/s": statistics.median(rates[side]), "ratio": statistics.median(turns)}
        rows.append({**row, "mean cosine": f"{mean:.5f}", "least cosine": f"{least:.5f}"})
    show(f"{options.weights.name}, {options.count} pictures", rows)
    return write(options.out, rows, threads=options.threads, batch=options.batch, weights=options.weights.name)


def _one_side(options: argparse.Namespace) -> None:
    """Times one pass after a warm-up pass over one batch; keeps the features."""
    images = read_tower_images(options.weights)
    pixels_NHWC = np.stack([_squashed(index, images.height, images.width) for index in range(options.count)])
    pixels_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2)
    backbone = read_backbone(options.weights, "vision")
    tower = ImageTower(backbone, scale=images.scale, mean=images.mean, std=images.std).eval()
    if options.side.startswith("diptych"):
        run = FrozenPass(tower, options.batch, "bfloat16" if "bfloat16" in options.side else "float32")
    else:
        if "allocator" in options.side:
            keep_large_blocks()
        pixels_NCHW = ((pixels_NCHW * images.scale) - tower.mean_C11) / tower.std_C11
        run = _eager(backbone.eval(), options.batch)
    run(pixels_NCHW[: options.batch])
    started = time.perf_counter()
    features_ND = run(pixels_NCHW)
    seconds = time.perf_counter() - started
    np.save(options.features, features_ND.numpy())
    print(json.dumps({"images/s": options.count / seconds}))


def _eager(backbone: torch.nn.Module, batch: int) -> Callable[[Tensor], Tensor]:
    def run(pixels_NCHW: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [backbone(pixel_values=some).pooler_output for some in pixels_NCHW.contiguous().split(batch)]
        return torch.cat(parts).flatten(1)

    return run


def _squashed(index: int, height: int, width: int) -> np.ndarray:
    picture = Image.open(io.BytesIO(photograph(index))).convert("RGB")
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def _cosines(reference: Path, features: Path) -> tuple[float, float]:
    a, b = (np.load(path).astype(np.float64) for path in (reference, features))
    cosine_N = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(cosine_N.mean()), float(cosine_N.min())


if __name__ == "__main__":
    sys.exit(main())
