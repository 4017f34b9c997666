"""What `diptych plan --probe` says beside what training takes: peak memory above the idle process, and time per step.

Each recipe is planned from a probe at 1/16 and 1/4 of its batch, and then trained at all of it for a few steps, every
time in a process of its own. Seconds are those that the training thread computed, so a busy machine does not change
them much. Memory is held to 15 % where it exceeds 1 GB, time to 25 %.

python benchmarks/plan.py --out benchmarks/results/plan.json
"""

from __future__ import annotations

import sys
from typing import Any

from _measure import arguments, show, write
from diptych.commands._planning import observed, planned
from diptych.core.allocator import keep_large_blocks
from diptych.guide.plan import StagePlan
from diptych.training.configured import recipe
from diptych.training.preflight.step_timing import StepTiming, TimingRequest, time_steps

MEMORY, TIME, LARGE = 0.15, 0.25, 1e9
BATCHES = {
    "clip_tiny": 1024,
    "siglip_tiny": 512,
    "llip_tiny": 256,
    "slip_tiny": 128,
    "clip_rocket_tiny": 128,
    "vit_tiny": 1024,
    "coca_tiny": 384,
    "visualbert_tiny": 384,
    "vq_tiny": 256,
    "vqgan_tiny": 96,
    "vit_vqgan_tiny": 256,
    "autoencoder_kl_tiny": 64,
}
"""Recipes of one training stage, with batches of which some take more than a gigabyte."""
SCENES = 3000
"""So many are enough for a few batches and for the tokenizers."""


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--recipes", nargs="+", default=list(BATCHES), choices=sorted(BATCHES))
    parser.set_defaults(repetitions=3, threads=1)
    options = parser.parse_args()
    keep_large_blocks()
    rows = []
    for name in options.recipes:
        rows.append(_row(name, BATCHES[name], options.threads, options.repetitions))
        show("prediction and measurement", rows)
        missed = [row["recipe"] for row in rows if not (row["memory holds"] and row["time holds"])]
        write(options.out, rows, limits={"memory": MEMORY, "time": TIME, "above bytes": LARGE}, missed=missed)


def _row(name: str, batch: int, threads: int, steps: int) -> dict[str, Any]:
    data = recipe(name).data
    data += f"{'&' if '?' in data else '?'}count={SCENES}"
    fields = ("--data", data, "--batch_size", str(batch), "--threads", str(threads), "--loader_threads", "1")
    (plan,) = planned(name, fields, "1xcpu", None, 0.0, True, _quiet)
    (real,) = time_steps(TimingRequest(name, fields, steps=steps, seconds=30.0))
    return {"recipe": name, "batch": batch, **_compared(plan, real)}


def _quiet(line: str) -> None:
    print(line, file=sys.stderr)


def _compared(plan: StagePlan, real: StepTiming) -> dict[str, Any]:
    held, step = plan.held("one"), 3600 * plan.hours.value / plan.stage.steps
    memory = observed(real).memory
    off, late = held.value / memory - 1, step / real.seconds - 1
    return {
        "MB planned": held.value / 1e6,
        "MB": memory / 1e6,
        "memory off": off,
        "memory holds": memory < LARGE or abs(off) <= MEMORY,
        "s planned": step,
        "s": real.seconds,
        "time off": late,
        "time holds": abs(late) <= TIME,
        "probe": plan.overhead.why,
        "steps": real.steps,
    }


if __name__ == "__main__":
    main()
