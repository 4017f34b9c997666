"""BLIP-2's second stage: a training step, diptych beside transformers' Blip2ForConditionalGeneration, in turns.

Same weights, batches and optimizer; Q-Former and linear map are trained, tower and language model (a Llama) are frozen.
Before anything is timed the losses of several steps are checked to be equal. "packed" has conversations share rows
(layers/packing.py), which transformers' model cannot.

python benchmarks/blip2_step.py --threads 1 --out benchmarks/results/blip2_step.json
"""

from __future__ import annotations

import statistics
import sys
from argparse import Namespace
from itertools import cycle
from typing import Any

import torch

from _blip2_sides import Sizes, our_model, our_step, their_model, their_step
from _llama_sides import Size
from _llava_sides import conversations
from _measure import alternate, arguments, peer, rate, show, write

SIZES = (
    Sizes(48, 8, Size(64, 2, 2, 256), Size(96, 4, 3, 256), Size(64, 4, 4, 256), 8),
    Sizes(112, 16, Size(384, 6, 6, 1536), Size(704, 11, 11, 2048), Size(384, 6, 6, 1536), 16),
)
"""Of about 1.4 and 100 million parameters."""
NEAR = 1e-4
"""Of the losses, as a share."""


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 8], help="conversations a step, of each size")
    parser.add_argument("--steps", type=int, default=3, help="steps whose losses are compared")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 1], help="which of the two")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    package = peer("transformers", "transformers")
    rows = [row for index in options.sizes for row in _of_size(package, index, options)]
    show("BLIP-2, conversations a second", rows)
    write(options.out, rows, steps=options.steps, threads=options.threads)


def _of_size(package: Any, index: int, options: Namespace) -> list[dict[str, Any]]:
    sizes, batch = SIZES[index], options.batch[index]
    theirs = their_model(package, sizes)
    ours = our_model(theirs, sizes)
    millions = sum(parameter.numel() for parameter in theirs.parameters()) / 1e6
    data = conversations(options.steps, batch, sizes)
    room = 2 * max(one.tokens_BT.shape[1] for one in data)
    steps = {
        "transformers": their_step(theirs),
        "diptych": our_step(ours),
        "diptych, packed": our_step(ours, room),
    }
    reference = [steps["transformers"](one) for one in data]
    for name in ("diptych", "diptych, packed"):
        found = [steps[name](one) for one in data]
        furthest = max(abs(a - b) / a for a, b in zip(reference, found, strict=True))
        print(f"{millions:.1f} M, {name}: losses {[round(one, 5) for one in found]}, at most {furthest:.1e} apart")
        if furthest > NEAR:
            sys.exit(f"{millions:.1f} M parameters: the losses of {name} are others than transformers': {reference}")
    turns = {name: (step, cycle(data)) for name, step in steps.items()}
    runs = {name: (lambda step=step, turn=turn: step(next(turn))) for name, (step, turn) in turns.items()}
    seconds = alternate(runs, options.repetitions, warm_up=1)
    rows = []
    for name, own in seconds.items():
        ratio = statistics.median(theirs / one for theirs, one in zip(seconds["transformers"], own, strict=True))
        row = {"side": name, "million": millions, "at once": batch, "a second": rate(batch, own)}
        rows.append({**row, "seconds": statistics.median(own), "ratio": ratio})
    return rows


if __name__ == "__main__":
    sys.exit(main())
