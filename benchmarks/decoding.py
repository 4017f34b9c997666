"""Greedy decoding: our trunk, its cache and `write` beside transformers' generate, the same Llama in both.

Both read the same prompts and write the same number of tokens; that they are the same ones is checked before anything
is timed. The weights are random and no end token is told, so every row is written to its end.

python benchmarks/decoding.py --threads 1 --processor_time --out benchmarks/results/decoding.json
"""

from __future__ import annotations

import statistics
import sys
import time
from argparse import Namespace
from typing import Any

import torch

from _llama_sides import VOCABULARY, Both, Size
from _measure import alternate, arguments, peer, rate, show, write

SIZES = (Size(96, 4, 3, 256), Size(256, 5, 8, 640), Size(768, 14, 12, 2048))
"""Of about 0.8, 5 and 100 million parameters, words counted."""


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="prompts at a time")
    parser.add_argument("--tokens", type=int, default=64, help="that are written to each")
    parser.add_argument("--prompt", type=int, default=16, help="tokens of a prompt")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 1, 2], help="which of the three")
    parser.add_argument(
        "--processor_time", action="store_true", help="seconds of the processor, for a machine with other work to do"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers = peer("transformers", "transformers")
    rows: list[dict[str, Any]] = []
    for size in (SIZES[index] for index in options.sizes):
        both = Both(transformers, size)
        for batch in options.batches:
            rows += _compared(both, batch, options)
    show(f"tokens a second, greedy, {options.tokens} to a prompt of {options.prompt}", rows)
    write(options.out, rows, tokens=options.tokens, prompt=options.prompt, threads=options.threads)


def _compared(both: Both, batch: int, options: Namespace) -> list[dict[str, Any]]:
    prompts_NT = torch.randint(VOCABULARY, (batch, options.prompt), generator=torch.Generator().manual_seed(1))
    if both.our_tokens(prompts_NT, options.tokens) != both.their_tokens(prompts_NT, options.tokens):
        sys.exit(f"{both.millions:.1f} M parameters, {batch} prompts: the two write different tokens")
    sides = {
        "transformers": lambda: both.their_tokens(prompts_NT, options.tokens),
        "diptych": lambda: both.our_tokens(prompts_NT, options.tokens),
    }
    clock = time.process_time if options.processor_time else time.perf_counter
    seconds = alternate(sides, options.repetitions, clock=clock)
    rows = []
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["transformers"], found, strict=True))
        speed = rate(batch * options.tokens, found)
        rows.append({"side": name, "million": both.millions, "prompts": batch, "tokens/s": speed, "ratio": ratio})
    return rows


if __name__ == "__main__":
    sys.exit(main())
