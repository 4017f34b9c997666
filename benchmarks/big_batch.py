"""One training step at a batch many times what fits: gradient caching beside the plain step.

Three ways, each in a process of its own: the plain step at the batch that fits, the same model at a batch `times` as
large through gradient caching, and the plain step at that batch where the memory is there. The last two give the same
loss and the same gradient. Caching embeds everything once more without a graph, so 4/3 of the time is what theory asks
for when a backward pass costs two forward passes.

python benchmarks/big_batch.py --out benchmarks/results/big_batch.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from _clip_sides import OPTIMIZER, autocast, batches, our_task
from _measure import arguments, in_subprocess, peak_mb, show, write
from diptych.training.backward import backward

WAYS = ("fits", "cached", "whole")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--micro", type=int, default=16, help="the batch that fits")
    parser.add_argument("--times", type=int, default=32, help="how many times as large the batch is")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--without-whole", action="store_true", help="leave out the plain step at the large batch")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--gradient", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(repetitions=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.way:
        return print(json.dumps(_measured(options)))
    rows, agreement = _rows(options)
    show(f"a step of {options.micro * options.times} pairs, {options.precision}", rows)
    if agreement:
        show("cached and whole", [agreement])
    return write(options.out, rows, agreement=agreement, micro=options.micro, times=options.times,
                 precision=options.precision, threads=options.threads)  # fmt: skip


def _rows(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row a way, and how far cached and whole are apart."""
    ways = WAYS[:2] if options.without_whole else WAYS
    with tempfile.TemporaryDirectory() as place:
        files = {way: Path(place) / f"{way}.pt" for way in ways}
        rows = [{"way": way, **_alone(way, files[way], options)} for way in ways]
        agreement = {} if options.without_whole else _agreement(files["whole"], files["cached"])
    by_way = {row["way"]: row for row in rows}
    for row in rows:
        row["time per pair, of the plain step"] = by_way["fits"]["images/s"] / row["images/s"]
        row["peak memory, of the plain step"] = row["peak MB"] / by_way["fits"]["peak MB"]
    if agreement:
        agreement["loss difference"] = abs(by_way["whole"]["loss"] - by_way["cached"]["loss"])
    return rows, agreement


def _alone(way: str, gradient: Path, options: argparse.Namespace) -> dict[str, Any]:
    words = {"micro": options.micro, "times": options.times, "precision": options.precision}
    words |= {"threads": options.threads, "repetitions": options.repetitions, "way": way, "gradient": gradient}
    return in_subprocess(__file__, *(word for name, value in words.items() for word in (f"--{name}", value)))


def _measured(options: argparse.Namespace) -> dict[str, float]:
    """Median seconds, peak memory and the loss of one way; its gradient goes to a file."""
    torch.manual_seed(0)
    task = our_task()
    (groups,) = task.trainable().values()
    optimizer = OPTIMIZER.build(groups)
    size = options.micro * (1 if options.way == "fits" else options.times)
    (pairs,) = batches(1, size)
    batch = pairs.cut()
    cut = batch.split(options.micro) if options.way == "cached" else [batch]
    repetitions = options.repetitions * (4 if options.way == "fits" else 1)  # short steps are noisier
    seconds, losses = [], []
    for repetition in range(1 + repetitions):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(backward(task, cut, autocast=autocast(options.precision), seed=(0,))["loss"]))
        if not repetition:
            torch.save([p.grad for p in task.parameters() if p.grad is not None], options.gradient)
        optimizer.step()
        task.after_step()
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds[1:])  # the first one warms up
    return {"batch": size, "seconds": median, "images/s": size / median, "peak MB": peak_mb(), "loss": losses[0]}


def _agreement(whole: Path, cached: Path) -> dict[str, float]:
    """How far two gradients are apart, against the norm of the first."""
    ours, theirs = (torch.cat([g.flatten().double() for g in torch.load(path)]) for path in (cached, whole))
    return {"gradient difference / norm": float((ours - theirs).norm() / theirs.norm())}


if __name__ == "__main__":
    sys.exit(main())
