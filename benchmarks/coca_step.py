"""A training step of CoCa: diptych beside open_clip with the same weights, captions and optimizer, in turns.

First the losses of several steps are compared: in fp32 they are equal, in bf16 the table says how far each side is from
fp32. Then pairs a second. Ours is measured twice: with open_clip's switches, for equal losses, and as our recipes
train, where a text is read right after its last word and so may be cut to the longest of its batch.

python benchmarks/coca_step.py --out benchmarks/results/coca_step.json
"""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch

from _clip_sides import Pairs, Step, batches, trajectory
from _coca_sides import open_clip_coca, our_step, their_step
from _measure import alternate, arguments, matrix_rate, rate, show, write
from _open_clip import open_clip

PRECISIONS = ("fp32", "bf16")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=32, help="pairs in a step")
    parser.add_argument("--steps", type=int, default=4, help="steps whose losses are compared")
    parser.add_argument("--precision", choices=PRECISIONS, help="one only; both when left out")
    options = parser.parse_args()
    precisions = (options.precision,) if options.precision else PRECISIONS
    torch.set_num_threads(options.threads)
    package = open_clip()
    model = open_clip_coca(package)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    data = batches(options.steps, options.batch)
    losses = [row for precision in precisions for row in _losses(model, package, data, precision)]
    show(f"the loss of {options.steps} steps", losses)
    rows: list[dict[str, Any]] = []
    for precision in precisions:
        rows += _speed(model, package, data, precision, options.repetitions)
        show(f"pairs a second, {millions:.1f} M parameters, batch {options.batch}", rows)
    write(options.out, rows, losses=losses, batch=options.batch, threads=options.threads, parameters=millions)


def _losses(model: Any, package: Any, data: list[Pairs], precision: str) -> list[dict[str, Any]]:
    """Each side's losses, and how far they are from those of open_clip in fp32."""
    reference = trajectory(their_step(copy.deepcopy(model), package, "fp32"), data)
    sides = {
        "open_clip": their_step(copy.deepcopy(model), package, precision),
        "diptych": our_step(model.state_dict(), precision),
    }
    rows: list[dict[str, Any]] = []
    for name, step in sides.items():
        found = trajectory(step, data)
        distance = max(abs(a - b) for a, b in zip(found, reference, strict=True))
        values = {f"step {index + 1}": f"{loss:.6f}" for index, loss in enumerate(found)}
        rows.append({"side": name, "precision": precision, **values, "furthest from fp32": f"{distance:.2e}"})
    return rows


def _speed(model: Any, package: Any, data: list[Pairs], precision: str, repetitions: int) -> list[dict[str, Any]]:
    state, size = model.state_dict(), len(data[0].lengths_B)
    sides = {
        "open_clip": their_step(copy.deepcopy(model), package, precision),
        "open_clip, fused AdamW": their_step(copy.deepcopy(model), package, precision, fused=True),
        "diptych": our_step(state, precision),
        "diptych, captions cut": our_step(state, precision, after=True),
    }
    runs = {name: _next_step(step, data) for name, step in sides.items()}
    seconds = alternate(runs, repetitions, warm_up=2)
    machine = matrix_rate(size * 50, 384, 1536, torch.bfloat16 if precision == "bf16" else torch.float32)
    rows = []
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["open_clip"], found, strict=True))
        speed = rate(size, found)
        rows.append({"side": name, "precision": precision, "pairs/s": speed, "ratio": ratio, "GFLOP/s": machine})
    return rows


def _next_step(step: Step, data: list[Pairs]) -> Callable[[], float]:
    turn = cycle(data)
    return lambda: step(next(turn))


if __name__ == "__main__":
    sys.exit(main())
