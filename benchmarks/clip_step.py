"""A training step of CLIP: diptych beside open_clip with the same weights, captions and optimizer, in turns.

First the losses of several steps are compared: in fp32 they are equal, in bf16 ours are no further from fp32 than
open_clip's own. Then images a second, eager and compiled, and each side's share of what the machine's matrix product
gives. Peak memory is of a process of its own for each side.

python benchmarks/clip_step.py --out benchmarks/results/clip_step.json
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch

from _clip_sides import (
    Pairs,
    Step,
    batches,
    gigaflops,
    open_clip_model,
    open_clip_step,
    our_step,
    trajectory,
)
from _measure import alternate, arguments, in_subprocess, matrix_rate, peak_mb, rate, show, write
from _open_clip import open_clip

BATCH, STEPS = 64, 5
PRECISIONS = ("fp32", "bf16")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--memory", choices=("diptych", "open_clip"), help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=argparse.SUPPRESS)
    parser.add_argument("--eager-only", action="store_true", help="leave out torch.compile, which takes minutes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    package = open_clip()
    if options.memory:
        return print(json.dumps(_memory(package, options.memory, options.precision)))
    model = open_clip_model(package)
    losses = _losses(model, package)
    show(f"the loss of {STEPS} steps", losses)
    rows: list[dict[str, Any]] = []
    for compiled in (False, True)[: 1 if options.eager_only else 2]:
        for precision in PRECISIONS:
            rows += _speed(model, package, precision, compiled, options.repetitions)
            show("images a second", rows)
    memory = [
        {"side": side, "precision": precision, **in_subprocess(__file__, "--memory", side, "--precision", precision)}
        for precision in PRECISIONS
        for side in ("diptych", "open_clip")
    ]
    show("peak memory of a process that trains", memory)
    write(options.out, rows, losses=losses, memory=memory, batch=BATCH, threads=options.threads)
    return None


def _losses(model: Any, package: Any) -> list[dict[str, Any]]:
    """Each side's losses and, in bf16, how far they are from open_clip's in fp32."""
    data = batches(STEPS, BATCH)
    rows: list[dict[str, Any]] = []
    reference: list[float] = []
    for precision in PRECISIONS:
        for name, step in _sides(model, package, precision, compiled=False).items():
            found = trajectory(step, data)
            reference = reference or found
            distance = max(abs(a - b) for a, b in zip(found, reference, strict=True))
            values = {f"step {index + 1}": f"{loss:.6f}" for index, loss in enumerate(found)}
            rows.append({"side": name, "precision": precision, **values, "furthest from fp32": f"{distance:.2e}"})
    return rows


def _sides(model: Any, package: Any, precision: str, compiled: bool) -> dict[str, Step]:
    torch._dynamo.reset()
    theirs = copy.deepcopy(model)
    return {
        "open_clip": open_clip_step(theirs, package, precision, compiled),
        "diptych": our_step(model.state_dict(), precision, compiled),
    }


def _speed(model: Any, package: Any, precision: str, compiled: bool, repetitions: int) -> list[dict[str, Any]]:
    sides = _sides(model, package, precision, compiled)
    if not compiled:
        sides["open_clip, fused AdamW"] = open_clip_step(copy.deepcopy(model), package, precision, compiled, fused=True)
    rows = _timed(sides, batches(8, BATCH), precision, compiled, repetitions)
    mixed = _sides(model, package, precision, compiled) if not compiled else {}
    if mixed:
        renamed = {f"{name}, one caption of 75 words in 64": step for name, step in mixed.items()}
        rows += _timed(renamed, batches(8, BATCH, long_captions=1), precision, compiled, repetitions)
    return rows


def _timed(
    sides: dict[str, Step], data: list[Pairs], precision: str, compiled: bool, repetitions: int
) -> list[dict[str, Any]]:
    """Rows with images a second; two steps each are left out as warm-up, five where a compiler has shapes to meet."""
    runs = {name: _next_step(step, data) for name, step in sides.items()}
    seconds = alternate(runs, repetitions, warm_up=6 if compiled else 2)
    machine = _matrix(precision)
    base = next(name for name in sides if name.startswith("open_clip"))
    rows = []
    for name, found in seconds.items():
        row = {"side": name, "precision": precision, "compiled": compiled, "images/s": rate(BATCH, found)}
        row["ratio"] = statistics.median(b / own for b, own in zip(seconds[base], found, strict=True))
        if not compiled:
            work = gigaflops(sides[name], data[0])
            row |= {"GFLOP": work, "matrix rate": work / statistics.median(found) / machine}
        rows.append(row)
    return rows


def _next_step(step: Step, data: list[Pairs]) -> Callable[[], float]:
    turn = cycle(data)
    return lambda: step(next(turn))


def _matrix(precision: str) -> float:
    """GFLOP/s at the shapes of the vision tower's MLP."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    return matrix_rate(BATCH * 50, 384, 1536, kind)


def _memory(package: Any, side: str, precision: str) -> dict[str, float]:
    """Peak memory after three steps, the other side's model gone."""
    model = open_clip_model(package)
    if side == "diptych":
        state = model.state_dict()
        del model
        step = our_step(state, precision, compiled=False)
        del state
    else:
        step = open_clip_step(model, package, precision, compiled=False)
    trajectory(step, batches(3, BATCH))
    return {"peak MB": peak_mb()}


if __name__ == "__main__":
    sys.exit(main())
