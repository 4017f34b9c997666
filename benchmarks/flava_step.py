"""A training step of FLAVA on pairs: diptych beside transformers' FlavaForPreTraining, in turns.

Same weights, batches, codes and optimizer. First the losses of several steps are compared: in fp32 they are equal, in
bf16 ours are about as far from fp32 as transformers' own. Then images a second.

python benchmarks/flava_step.py --out benchmarks/results/flava_step.json
"""

from __future__ import annotations

import copy
import statistics
import sys
from itertools import cycle
from typing import Any

import torch

from _flava_sides import Step, batches, our_step, our_task, parameters_of, their_model, their_step
from _measure import alternate, arguments, peer, rate, show, write
from diptych.data.batches.mixed_pairs import MixedBatch

PRECISIONS = ("fp32", "bf16")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=64, help="pairs a step")
    parser.add_argument("--steps", type=int, default=5, help="steps whose losses are compared")
    parser.add_argument("--precision", choices=PRECISIONS, help="one only; both when left out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = their_model(peer("transformers", "transformers"))
    parameters = parameters_of(our_task(model.state_dict()))
    print(f"{parameters / 1e6:.1f} M parameters, batches of {options.batch} pairs")
    chosen = (options.precision,) if options.precision else PRECISIONS
    data = batches(options.steps, options.batch)
    losses = _losses(model, data, chosen)
    show(f"the loss of {options.steps} steps", losses)
    rows = [row for precision in chosen for row in _speed(model, data, precision, options.repetitions)]
    show("images a second", rows)
    more = {"batch": options.batch, "threads": options.threads, "parameters": parameters}
    write(options.out, rows, losses=losses, **more)


def _sides(model: Any, precision: str) -> dict[str, Step]:
    return {
        "transformers": their_step(copy.deepcopy(model), precision),
        "diptych": our_step(our_task(model.state_dict()), precision),
    }


def _losses(model: Any, data: list[MixedBatch], precisions: tuple[str, ...]) -> list[dict[str, Any]]:
    """Each side's losses, and how far they are from transformers' in fp32 (or in the one precision there is)."""
    rows: list[dict[str, Any]] = []
    reference: list[float] = []
    for precision in precisions:
        for name, step in _sides(model, precision).items():
            found = [step(batch) for batch in data]
            reference = reference or found
            distance = max(abs(a - b) for a, b in zip(found, reference, strict=True))
            values = {f"step {index + 1}": f"{loss:.6f}" for index, loss in enumerate(found)}
            rows.append({"side": name, "precision": precision, **values, "furthest": f"{distance:.2e}"})
    return rows


def _speed(model: Any, data: list[MixedBatch], precision: str, repetitions: int) -> list[dict[str, Any]]:
    turns = {name: (step, cycle(data)) for name, step in _sides(model, precision).items()}
    runs = {name: (lambda step=step, turn=turn: step(next(turn))) for name, (step, turn) in turns.items()}
    seconds = alternate(runs, repetitions, warm_up=2)
    rows = []
    for name, found in seconds.items():
        ratio = statistics.median(b / own for b, own in zip(seconds["transformers"], found, strict=True))
        rows.append(
            {"side": name, "precision": precision, "images/s": rate(data[0].num_samples, found), "ratio": ratio}
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
