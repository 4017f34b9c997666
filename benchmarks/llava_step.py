"""LLaVA: a training step and greedy generation, diptych beside transformers' LlavaForConditionalGeneration, in turns.

Same weights, batches and optimizer; the tower is frozen, connector and language model are trained. Before anything is
timed the losses of several steps, and the tokens that both write, are checked to be equal. "packed" has conversations
share rows (layers/packing.py), which transformers' model cannot.

python benchmarks/llava_step.py --threads 1 --out benchmarks/results/llava_step.json
"""

from __future__ import annotations

import statistics
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

import torch

from _llama_sides import Size
from _llava_sides import (
    Sizes,
    conversations,
    our_model,
    our_step,
    our_tokens,
    prompts,
    their_model,
    their_step,
    their_tokens,
)
from _measure import alternate, arguments, peer, rate, show, write

SIZES = (
    Sizes(48, 8, Size(64, 2, 2, 256), Size(96, 4, 3, 256)),
    Sizes(112, 16, Size(384, 6, 6, 1536), Size(768, 12, 12, 2048)),
)
"""Of about 1.3 and 100 million parameters."""
NEAR = 1e-4
"""Of the losses, as a share."""


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 8], help="conversations a step, of each size")
    parser.add_argument("--steps", type=int, default=3, help="steps whose losses are compared")
    parser.add_argument("--tokens", type=int, default=32, help="that are written to each prompt")
    parser.add_argument("--prompts", type=int, nargs="+", default=[16, 4], help="at a time, of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 1], help="which of the two")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    package = peer("transformers", "transformers")
    rows = [row for index in options.sizes for row in _of_size(package, index, options)]
    show("LLaVA, conversations and tokens a second", rows)
    write(options.out, rows, steps=options.steps, tokens=options.tokens, threads=options.threads)


def _of_size(package: Any, index: int, options: Namespace) -> list[dict[str, Any]]:
    sizes = SIZES[index]
    theirs = their_model(package, sizes)
    ours = our_model(theirs, sizes)
    millions = sum(parameter.numel() for parameter in theirs.parameters()) / 1e6
    batch, count = options.batch[index], options.prompts[index]
    data = conversations(options.steps, batch, sizes)
    room = 2 * max(one.tokens_BT.shape[1] for one in data)
    steps = {
        "transformers": their_step(theirs),
        "diptych": our_step(ours),
        "diptych, packed": our_step(ours, room),
    }
    losses = {name: [step(one) for one in data] for name, step in steps.items()}
    _check(losses, millions)
    turns = {name: (step, cycle(data)) for name, step in steps.items()}
    runs = {name: (lambda step=step, turn=turn: step(next(turn))) for name, (step, turn) in turns.items()}
    found = _rows(runs, options.repetitions, {"million": millions, "what": "step", "at once": batch}, batch)
    tokens_NT, pixels_NCHW = prompts(count, 12, sizes)
    told = (tokens_NT, pixels_NCHW, options.tokens)
    if our_tokens(ours, *told) != their_tokens(theirs, *told):
        sys.exit(f"{millions:.1f} M parameters: the two write different tokens")
    writers: dict[str, Callable[[], object]] = {
        "transformers": lambda: their_tokens(theirs, *told),
        "diptych": lambda: our_tokens(ours, *told),
    }
    what = {"million": millions, "what": "generate", "at once": count}
    return found + _rows(writers, options.repetitions, what, count * options.tokens)


def _check(losses: Mapping[str, list[float]], millions: float) -> None:
    """Ends the program where a side's losses are others than transformers'."""
    reference = losses["transformers"]
    for name, found in losses.items():
        furthest = max(abs(a - b) / a for a, b in zip(reference, found, strict=True))
        print(f"{millions:.1f} M, {name}: losses {[round(one, 5) for one in found]}, at most {furthest:.1e} apart")
        if furthest > NEAR:
            sys.exit(f"{millions:.1f} M parameters: the losses of {name} are others than transformers'")


def _rows(
    runs: Mapping[str, Callable[[], object]], repetitions: int, what: dict[str, Any], items: int
) -> list[dict[str, Any]]:
    seconds = alternate(runs, repetitions, warm_up=1)
    rows = []
    for name, found in seconds.items():
        ratio = statistics.median(theirs / own for theirs, own in zip(seconds["transformers"], found, strict=True))
        row = {"side": name, **what, "a second": rate(items, found), "seconds": statistics.median(found)}
        rows.append({**row, "ratio": ratio})
    return rows


if __name__ == "__main__":
    sys.exit(main())
