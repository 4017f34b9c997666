"""Few-shot curves of prompts and adapters, and what they make a base forget.

    python benchmarks/few_shot.py --base RUN --data flowers5 --test val --sets caltech101 fashion_mnist flickr8k \\
        --out benchmarks/results/few_shot.json

Every method of the recipe `few_shot` at its own budget of steps, 1 to 16 pictures a class, five seeds, on one frozen
base. Learning rates are selected on pictures held out of the training part, of which no shot is drawn; the test part is
read by the reported runs alone. At 16 shots each adapted model is compared with its base on the other sets.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from _few_shot_runs import METHODS, Pictures, accuracy, adapted_model, forgotten, zero_shot
from _measure import arguments, show, write
from diptych.adapters.frozen import parameter_counts
from diptych.capabilities.load import load
from diptych.data.derived.few_shot import classes_of
from diptych.data.derived.subset import hold_out
from diptych.data.labelled import labelled_parts
from diptych.recipes.few_shot import FewShotRun, Method, few_shot
from diptych.training.run import Budget

SHOTS = (1, 2, 4, 8, 16)
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SELECTION_SHOTS = 4
SELECTION_SEEDS = (100, 101)
HELD_OUT = 500


def main() -> None:
    """Selects, runs the grid, compares."""
    parser = arguments(__doc__.partition("\n")[0])
    parser.add_argument("--base", required=True, help="a trained CLIP or SigLIP with a vision transformer")
    parser.add_argument("--data", required=True, help="labelled pictures")
    parser.add_argument("--test", default="test", help="the split that is reported")
    parser.add_argument("--sets", nargs="*", default=[], help="other data, for what is forgotten")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16, help="the most pictures in a step")
    parser.add_argument("--limit", type=int, default=2500, help="the most pictures of each other set")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    run = replace(few_shot(), base=options.base, data=options.data, batch_size=options.batch)
    run = replace(run, budget=Budget(steps=options.steps))
    parts = labelled_parts(options.data, options.test, run.test_share)
    training, held_out = hold_out(parts.train, HELD_OUT)
    names = list(classes_of(training))
    train, held, test = (Pictures.of(part, load(options.base), names) for part in (training, held_out, parts.test))
    print(f"{len(train)} pictures to draw from, {len(held)} held out, {len(test)} to test; chance {1 / len(names):.3f}")
    chosen = {method: selected(run, method, train, held, names) for method in METHODS}
    rates = {method: float(chosen[method]["rate"]) for method in METHODS}
    grid = [
        row(run, method, rates[method], shots, range(options.seeds), train, test, names)
        for method in METHODS
        for shots in SHOTS
    ]
    forgetting = forgotten(run, rates, train, names, options.sets, options.limit)
    show("few-shot top 1", [{name: one[name] for name in ("method", "shots", "trained", "mean")} for one in grid])
    show("what changed elsewhere at 16 shots", forgetting)
    write(
        options.out,
        grid,
        config={
            "base": Path(options.base).name, "data": Path(options.data).name, "test": options.test,
            "test_pictures": len(test), "classes": names, "steps": options.steps, "batch_size": run.batch_size,
            "template": run.template, "context": run.context.words, "prompts": run.prompts, "ratio": run.ratio,
            "lora_rank": run.lora.rank, "seeds": list(range(options.seeds)),
        },
        selection={
            "held_out": len(held), "shots": SELECTION_SHOTS, "seeds": list(SELECTION_SEEDS), "methods": chosen,
        },
        chance=1 / len(names),
        zero_shot=round(zero_shot(run, test, names), 4),
        forgetting=forgetting,
        seconds=round(time.perf_counter() - started, 1),
    )  # fmt: skip


def selected(run: FewShotRun, method: Method, train: Pictures, held: Pictures, names: Sequence[str]) -> dict[str, Any]:
    """The learning rate with the best mean on held-out pictures; the smallest of equals."""
    means = {}
    for rate in RATES:
        found = [
            accuracy(adapted_model(run, method, rate, SELECTION_SHOTS, seed, train, names), held)
            for seed in SELECTION_SEEDS
        ]
        means[rate] = sum(found) / len(found)
        print(f"{method} rate {rate:g}: {means[rate]:.3f} on held-out pictures", flush=True)
    best = max(RATES, key=lambda rate: means[rate])
    return {"rate": best, "tried": {f"{rate:g}": round(mean, 4) for rate, mean in means.items()}}


def row(
    run: FewShotRun, method: Method, rate: float, shots: int, seeds: Sequence[int], train: Pictures, test: Pictures,
    names: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Accuracy on the test part for every seed, with the mean's 95 % t interval over seeds."""
    values, counts = [], None
    for seed in seeds:
        task = adapted_model(run, method, rate, shots, seed, train, names)
        counts = parameter_counts(task)
        values.append(accuracy(task, test))
    assert counts is not None
    mean = sum(values) / len(values)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) if len(values) > 1 else 0.0
    print(f"{method} {shots} shots: {mean:.3f} +- {half:.3f}", flush=True)
    return {
        "method": method,
        "shots": shots,
        "trained": counts.trained,
        "frozen": counts.frozen,
        "values": [round(value, 4) for value in values],
        "mean": round(mean, 4),
        "low": round(mean - half, 4),
        "high": round(mean + half, 4),
    }


if __name__ == "__main__":
    main()
