"""Conversations that share rows beside a row each: a training step of LLaVA on our own trunk, in turns.

Lengths are unlike: a picture of 36 tokens, 8 to 24 that are told, and an answer of 4 to 256, 48 on average. Before
anything is timed the losses of several steps are checked to be equal.

python benchmarks/packing.py --threads 1 --out benchmarks/results/packing.json
"""

from __future__ import annotations

import statistics
import sys
from argparse import Namespace
from itertools import cycle
from typing import Any

import torch

from _llama_sides import Size
from _llava_sides import Sizes, conversations, our_model, our_step, their_model
from _measure import alternate, arguments, peer, rate, show, write
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.layers.packing import first_fit

VISION = Size(64, 2, 2, 256)
SIZES = (Sizes(48, 8, VISION, Size(96, 4, 3, 256)), Sizes(48, 8, VISION, Size(256, 5, 8, 640)))
NEAR = 1e-5
"""Of the losses, as a share."""


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=32, help="conversations a step")
    parser.add_argument("--steps", type=int, default=3, help="steps whose losses are compared")
    parser.add_argument("--rooms", type=int, nargs="+", default=[320, 640], help="tokens of a shared row")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 1], help="which of the two")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    package = peer("transformers", "transformers")
    rows = [row for index in options.sizes for row in _of_size(package, SIZES[index], options)]
    show("conversations a second", rows)
    write(options.out, rows, batch=options.batch, threads=options.threads)


def _of_size(package: Any, sizes: Sizes, options: Namespace) -> list[dict[str, Any]]:
    theirs = their_model(package, sizes)
    model = our_model(theirs, sizes)
    millions = sum(parameter.numel() for parameter in theirs.parameters()) / 1e6
    data = conversations(options.steps, options.batch, sizes, mean=48, longest=256)
    rooms = {"a row each": 0} | {f"rows of {room}": room for room in options.rooms}
    steps = {name: our_step(model, room) for name, room in rooms.items()}
    losses = {name: [step(one) for one in data] for name, step in steps.items()}
    for name, found in losses.items():
        furthest = max(abs(a - b) / a for a, b in zip(losses["a row each"], found, strict=True))
        if furthest > NEAR:
            sys.exit(f"{millions:.1f} M parameters, {name}: the losses are {furthest:.1e} apart")
    turns = {name: (step, cycle(data)) for name, step in steps.items()}
    runs = {name: (lambda step=step, turn=turn: step(next(turn))) for name, (step, turn) in turns.items()}
    seconds = alternate(runs, options.repetitions)
    rows = []
    for name, found in seconds.items():
        ratio = statistics.median(each / own for each, own in zip(seconds["a row each"], found, strict=True))
        empty = statistics.mean(_padding(batch, rooms[name]) for batch in data)
        row = {"layout": name, "million": millions, "padding": empty, "conversations/s": rate(options.batch, found)}
        rows.append({**row, "seconds": statistics.median(found), "ratio": ratio})
    return rows


def _padding(batch: ConversationBatch, room: int) -> float:
    """The share of places that hold nothing."""
    lengths = batch.lengths_B.tolist()
    if not room:
        return 1 - sum(lengths) / (len(lengths) * max(lengths))
    filled = [sum(lengths[one] for one in row) for row in first_fit(lengths, room)]
    return 1 - sum(filled) / (len(filled) * max(filled))


if __name__ == "__main__":
    sys.exit(main())
