"""A training step of VisualBERT: diptych beside transformers, with the same weights, features and masked words.

Both sides are given the same precomputed region features, so what is measured is the one transformer, its heads and the
optimizer. First the losses of several steps are compared: in fp32 they are equal, in bf16 the table says how far each
side is from fp32. Then images a second. transformers' dropout is off; it computes the vocabulary's logits at
every place, ours at those that are asked about.

python benchmarks/visualbert_step.py --out benchmarks/results/visualbert_step.json
"""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch

from _measure import alternate, arguments, matrix_rate, peer, rate, show, write
from _visualbert_sides import Data, Step, batches, our_step, parameters, their_step, theirs

PRECISIONS = ("fp32", "bf16")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=64, help="pairs in a step")
    parser.add_argument("--steps", type=int, default=4, help="steps whose losses are compared")
    parser.add_argument("--precision", choices=PRECISIONS, help="one only; both when left out")
    options = parser.parse_args()
    precisions = (options.precision,) if options.precision else PRECISIONS
    torch.set_num_threads(options.threads)
    model = theirs(peer("transformers", "transformers"))
    data = batches(max(options.steps, 4), options.batch)
    losses = [row for precision in precisions for row in _losses(model, data[: options.steps], precision)]
    show(f"the loss of {options.steps} steps", losses)
    rows: list[dict[str, Any]] = []
    for precision in precisions:
        rows += _speed(model, data, precision, options.repetitions)
        show(f"images a second, {parameters(model):.1f} M parameters, batch {options.batch}", rows)
    write(options.out, rows, losses=losses, batch=options.batch, threads=options.threads, parameters=parameters(model))


def _sides(model: Any, precision: str) -> dict[str, Step]:
    return {
        "transformers": their_step(copy.deepcopy(model), precision),
        "diptych": our_step(model.state_dict(), precision),
    }


def _losses(model: Any, data: list[Data], precision: str) -> list[dict[str, Any]]:
    """Each side's losses, and how far they are from those of transformers in fp32."""
    reference = _trajectory(their_step(copy.deepcopy(model), "fp32"), data)
    rows: list[dict[str, Any]] = []
    for name, step in _sides(model, precision).items():
        found = _trajectory(step, data)
        distance = max(abs(a - b) for a, b in zip(found, reference, strict=True))
        values = {f"step {index + 1}": f"{loss:.6f}" for index, loss in enumerate(found)}
        rows.append({"side": name, "precision": precision, **values, "furthest from fp32": f"{distance:.2e}"})
    return rows


def _trajectory(step: Step, data: list[Data]) -> list[float]:
    return [step(one) for one in data]


def _speed(model: Any, data: list[Data], precision: str, repetitions: int) -> list[dict[str, Any]]:
    sides = _sides(model, precision)
    sides["transformers, fused AdamW"] = their_step(copy.deepcopy(model), precision, fused=True)
    runs = {name: _next_step(step, data) for name, step in sides.items()}
    seconds = alternate(runs, repetitions, warm_up=2)
    machine = matrix_rate(data[0].tokens_BT.shape[0] * 60, 384, 1536, _dtype(precision))
    rows = []
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["transformers"], found, strict=True))
        speed = rate(len(data[0].tokens_BT), found)
        rows.append({"side": name, "precision": precision, "images/s": speed, "ratio": ratio, "GFLOP/s": machine})
    return rows


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _next_step(step: Step, data: list[Data]) -> Callable[[], float]:
    turn = cycle(data)
    return lambda: step(next(turn))


if __name__ == "__main__":
    sys.exit(main())
