"""From one process to two: the same global batch on one thread a process, through DDP and through FSDP2, over gloo.

Efficiency is images a second against the number of processes times what one process does. Each process computes with
one thread, so two processes have twice the machine.

python benchmarks/scaling.py --out benchmarks/results/scaling.json
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
import torch.distributed as dist
import torch.multiprocessing as mp

from _clip_sides import OPTIMIZER, autocast, batches, our_task
from _measure import arguments, peak_mb, show, write
from diptych.distributed.world import current, leave
from diptych.training.backward import backward
from diptych.training.parallel import Parallel, wrap

SIDES: tuple[tuple[Parallel, int], ...] = (("ddp", 1), ("ddp", 2), ("fsdp", 2))


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=64, help="of all processes together")
    parser.add_argument("--precision", choices=("fp32", "bf16"), nargs="+", default=["fp32", "bf16"])
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for precision in options.precision:
        found = [_alone(kind, processes, precision, options) for kind, processes in SIDES]
        for row in found:
            row["efficiency"] = row["images/s"] / (row["processes"] * found[0]["images/s"])
        rows += found
    show(f"a step of {options.batch} pairs over processes of {options.threads} thread(s)", rows)
    write(options.out, rows, batch=options.batch, threads=options.threads)


def _alone(kind: Parallel, processes: int, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """What one way and number of processes gives."""
    with tempfile.TemporaryDirectory() as place:
        given = (kind, processes, precision, options.batch, options.repetitions, options.threads, place)
        mp.spawn(_worker, given, nprocs=processes)
        found = [json.loads((Path(place) / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(processes)]
    return {
        "way": kind if processes > 1 else "one process",
        "precision": precision,
        "processes": processes,
        "images/s": options.batch / max(one["seconds"] for one in found),
        "peak MB a process": max(one["peak MB"] for one in found),
        "loss": found[0]["loss"],
    }


def _worker(
    rank: int, kind: Parallel, processes: int, precision: str, batch: int, repetitions: int, threads: int, place: str
) -> None:
    torch.set_num_threads(threads)
    dist.init_process_group("gloo", init_method=f"file://{place}/rendezvous", rank=rank, world_size=processes)
    torch.manual_seed(0)
    wrapped = wrap(our_task(), current(), kind, torch.device("cpu"))
    found = _timed(wrapped, rank, processes, precision, batch, repetitions)
    (Path(place) / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    del wrapped
    leave()


def _timed(
    wrapped: torch.nn.Module, rank: int, processes: int, precision: str, batch: int, repetitions: int
) -> dict[str, float]:
    """Median seconds of a step, all processes in it; two steps warm up."""
    task: Any = getattr(wrapped, "module", wrapped)
    (groups,) = task.trainable().values()
    optimizer = OPTIMIZER.build(groups)
    (pairs,) = batches(1, batch)
    mine = pairs.cut().split(batch // processes)[rank]
    seconds, losses = [], []
    for _ in range(2 + repetitions):
        dist.barrier()
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(backward(wrapped, [mine], autocast=autocast(precision), seed=(0,))["loss"]))
        optimizer.step()
        task.after_step()
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds[2:]), "peak MB": peak_mb(), "loss": losses[0]}


if __name__ == "__main__":
    sys.exit(main())
