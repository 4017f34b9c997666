"""Images a second of a training step of every contrastive model, at equal towers.

First CLIP and SigLIP beside open_clip with the same weights, captions and optimizer, after the losses of several steps
were compared. Then every recipe named *_tiny that trains on pictures with captions, its towers made as large as those,
on batches of its own processor: what a model's views, tokens and heads cost against CLIP.

python benchmarks/contrastive_step.py --out benchmarks/results/contrastive_step.json
"""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import cycle
from typing import Any

import torch

from _clip_sides import (
    CONTEXT,
    SIZE,
    Pairs,
    Step,
    autocast,
    batches,
    open_clip_model,
    open_clip_step,
    our_step,
    task_step,
    trajectory,
)
from _measure import alternate, arguments, rate, show, write
from _open_clip import open_clip
from _siglip_sides import open_clip_siglip, our_siglip
from diptych.core import discovery
from diptych.core.task import GlobalTask
from diptych.data.batches.image_text import ImageTextConfig, TextPreprocessing
from diptych.data.loading.loader import Loader
from diptych.data.open import open_source
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive._options import PairOptions
from diptych.recipes._image_text import ImageTextRun
from diptych.training.backward import backward
from diptych.training.optimizer import AdamWConfig

STEPS = 3
PRECISIONS = ("fp32", "bf16")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    parser.set_defaults(repetitions=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    package = open_clip()
    data = batches(4, options.batch)
    beside: list[dict[str, Any]] = []
    losses: list[dict[str, Any]] = []
    for name, sides in (("clip", _clip), ("siglip", _siglip)):
        losses += [
            {"model": name, "side": side, **_losses(step, data)} for side, step in sides(package, "fp32").items()
        ]
        for precision in options.precision:
            beside += _beside(name, sides(package, precision), data, precision, options)
    show(f"the loss of {STEPS} steps, fp32", losses)
    show("images a second, beside open_clip", beside)
    rows = [row for precision in options.precision for row in _models(precision, options)]
    show("images a second, every model at equal towers", rows)
    write(options.out, rows, beside=beside, losses=losses, batch=options.batch, threads=options.threads)


def _clip(package: Any, precision: str) -> dict[str, Step]:
    model = open_clip_model(package)
    ours = our_step(model.state_dict(), precision, compiled=False)
    return {"open_clip": open_clip_step(model, package, precision, compiled=False), "diptych": ours}


def _siglip(package: Any, precision: str) -> dict[str, Step]:
    model = open_clip_siglip(package)
    state = copy.deepcopy(model.state_dict())
    return {
        "open_clip": open_clip_step(model, package, precision, compiled=False),
        "diptych": task_step(our_siglip(state, constant=True), precision, whole_rows=True),
        "diptych, without padding": task_step(our_siglip(state, constant=False), precision),
    }


def _losses(step: Step, data: list[Pairs]) -> dict[str, str]:
    return {f"step {number + 1}": f"{loss:.6f}" for number, loss in enumerate(trajectory(step, data[:STEPS]))}


def _beside(name: str, sides: dict[str, Step], data: list[Pairs], precision: str, options: Any) -> list[dict[str, Any]]:
    seconds = alternate({side: _turns(step, data) for side, step in sides.items()}, options.repetitions)
    pairs = {side: zip(seconds["open_clip"], found, strict=True) for side, found in seconds.items()}
    return [
        {
            "model": name,
            "side": side,
            "precision": precision,
            "images/s": rate(options.batch, found),
            "ratio": statistics.median(theirs / ours for theirs, ours in pairs[side]),
        }
        for side, found in seconds.items()
    ]


def _turns(step: Step, data: list[Pairs]) -> Callable[[], float]:
    turn = cycle(data)
    return lambda: step(next(turn))


def _models(precision: str, options: Any) -> list[dict[str, Any]]:
    """A row for each of our models, run in turns."""
    runs = {run.name.removesuffix("_tiny"): run for run in _recipes()}
    tasks = {name: _task(run) for name, run in runs.items()}
    steps = {name: _step(task, _data(task, options.batch), precision) for name, task in tasks.items()}
    seconds = alternate(steps, options.repetitions)
    return [
        {
            "model": name,
            "precision": precision,
            "images/s": rate(options.batch, found),
            "of CLIP's": statistics.median(base / own for base, own in zip(seconds["clip"], found, strict=True)),
            "parameters": f"{sum(p.numel() for p in tasks[name].parameters()):,}",
        }
        for name, found in seconds.items()
    ]


def _recipes() -> list[ImageTextRun]:
    """The runs of tiny recipes that train on pictures with captions."""
    made = [getattr(recipe.load(), name)() for name, recipe in discovery.recipes().items() if name.endswith("_tiny")]
    return [run for run in made if isinstance(run, ImageTextRun)]


def _task(run: ImageTextRun) -> GlobalTask[Any]:
    source = open_source("scenes?count=200", "train")
    tokenizer = Tokenizer.fit([text for index in range(200) for text in source[index].texts], 512)
    large = replace(run, model=_enlarged(run.model), image=replace(run.image, size=SIZE))  # type: ignore[attr-defined, call-arg]
    settings = ImageTextConfig(large.image, TextPreprocessing(run.context))
    task = large.task(settings, tokenizer, PairOptions())
    assert isinstance(task, GlobalTask)
    return task.train()


def _enlarged(model: Any) -> Any:
    """A model's configuration with its transformers, however deep they lie in it, at the common size."""
    common = {"width": 384, "heads": 6, "hidden": 1536}
    changes: dict[str, Any] = {}
    for field in fields(model):
        value = getattr(model, field.name)
        if isinstance(value, VisionConfig):
            changes[field.name] = replace(value, image_size=SIZE, patch_size=16, depth=12, **common)
        elif isinstance(value, TextConfig):
            changes[field.name] = replace(value, context=CONTEXT, depth=6, **common)
        elif field.name == "clip":
            changes[field.name] = _enlarged(value)
    return replace(model, **changes)


def _data(task: GlobalTask[Any], batch: int) -> list[Any]:
    """Two batches of scenes as the task's processor makes them."""
    with Loader(open_source(f"scenes?size={SIZE}&count=1000", "train"), task.processor, batch, 0, threads=2) as loader:
        return [next(loader) for _ in range(2)]


def _step(task: GlobalTask[Any], data: list[Any], precision: str) -> Callable[[], None]:
    (groups,) = task.trainable().values()
    optimizer, turn, context = AdamWConfig(lr=1e-4).build(groups), cycle(data), autocast(precision)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(task, [next(turn)], autocast=context, seed=(0,))
        optimizer.step()
        task.after_step()

    return step


if __name__ == "__main__":
    sys.exit(main())
