"""Time and peak memory of a contrastive loss alone, forward and backward: diptych beside open_clip.

python benchmarks/loss_memory.py --out benchmarks/results/loss_memory.json
python benchmarks/loss_memory.py --device cuda --out benchmarks/results/loss_memory_cuda.json

Each measurement is a process of its own. Its memory is what it holds at its peak above what it held with the embeddings
made and nothing computed. A side whose memory, measured at a smaller batch and taken to grow with the square, would not
fit the machine is not run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from _measure import arguments, in_subprocess, peak_mb, show, write
from _open_clip import open_clip
from diptych.objectives.contrastive import info_nce, sigmoid_loss

WIDTH = 512
LOSSES = ("clip", "siglip")
SIDES = {"cpu": ("diptych", "open_clip"), "cuda": ("diptych", "open_clip", "open_clip compiled")}
PAIRS = {"cpu": (16_384, 65_536), "cuda": (16_384, 65_536, 262_144, 1_048_576)}
"""Beyond the first size one run is timed: it takes minutes on a CPU, and a long run varies little."""

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--device", choices=sorted(SIDES), default="cpu")
    parser.add_argument("--pairs", type=int, nargs="+", help="batch sizes, ascending")
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "LOSS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = tuple(options.pairs or PAIRS[options.device])
    if options.one:
        return print(json.dumps(_measured(*options.one, sizes[0], options.device, options.repetitions)))
    rows = [row for loss in LOSSES for side in SIDES[options.device] for row in _rows(side, loss, sizes, options)]
    show(f"loss and gradient on {options.device}, width {WIDTH}", rows)
    return write(options.out, rows, threads=options.threads, device=options.device)


def _rows(side: str, loss: str, sizes: tuple[int, ...], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A measurement at each size that fits."""
    rows: list[dict[str, Any]] = []
    for pairs in sizes:
        row: dict[str, Any] = {"side": side, "loss of": loss, "pairs": pairs}
        needed = (
            rows[-1].get("MB", float("inf")) * (pairs / rows[-1]["pairs"]) ** 2 if rows and side != "diptych" else 0
        )
        if needed > _memory_mb(options.device):
            rows.append(
                row | {"pairs": pairs, "outcome": f"does not fit: more than {_memory_mb(options.device):.0f} MB"}
            )
            continue
        repetitions = options.repetitions if pairs == sizes[0] else 1
        shared = ("--device", options.device, "--threads", options.threads, "--repetitions", repetitions)
        rows.append(row | in_subprocess(__file__, "--one", side, loss, "--pairs", pairs, *shared))
    return rows


def _measured(side: str, loss: str, pairs: int, device: str, repetitions: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    image_ND, text_ND = (
        F.normalize(torch.randn(pairs, WIDTH, generator=generator), dim=-1).to(device).requires_grad_()
        for _ in range(2)
    )
    scale, bias = (torch.tensor(start, device=device, requires_grad=True) for start in (10.0, -10.0))
    function = _loss(side, loss)
    before, seconds = _held_mb(device), []
    for _ in range(repetitions):
        image_ND.grad = text_ND.grad = None
        started = time.perf_counter()
        value = function(image_ND, text_ND, scale, bias)
        value.backward()
        found = float(value.detach())  # waits for the device
        seconds.append(time.perf_counter() - started)
    gradient = float(image_ND.grad.norm()) if image_ND.grad is not None else 0.0
    return {
        "seconds": statistics.median(seconds),
        "MB": _held_mb(device) - before,
        "runs": repetitions,
        "value": found,
        "gradient norm": gradient,
    }


def _loss(side: str, loss: str) -> Loss:
    if side == "diptych":
        return sigmoid_loss if loss == "siglip" else lambda image, text, scale, bias: info_nce(image, text, scale)
    losses = open_clip().loss
    made = losses.ClipLoss() if loss == "clip" else losses.SigLipLoss()
    called: Any = torch.compile(made) if side.endswith("compiled") else made
    if loss == "clip":
        return lambda image, text, scale, bias: called(image, text, scale)
    return called  # type: ignore[no-any-return]


def _held_mb(device: str) -> float:
    """The most memory held so far."""
    return torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else peak_mb()


def _memory_mb(device: str) -> float:
    """What the device has."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory / 1e6
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6


if __name__ == "__main__":
    sys.exit(main())
