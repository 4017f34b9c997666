"""What each training stage of a finished run cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from diptych.capabilities.load import check_device
from diptych.core.records.run_folder import RunFolder
from diptych.core.seeding import seed_everything
from diptych.data.loading.loader import Loader
from diptych.distributed.watch import Watch
from diptych.distributed.world import World
from diptych.training.flops import step_flops
from diptych.training.run import Run
from diptych.training.stages import Context, Train

_COUNTED = 3
"""Batches whose operations are counted: they differ in the length of their texts."""


@dataclass(frozen=True)
class StageCost:
    """Of one training stage.

    Attributes:
        parameters, trained: all, and those that were trained.
        flops: of the forward and backward passes of all its steps.
    """

    stage: str
    steps: int
    samples: int
    seconds: float
    parameters: int
    trained: int
    flops: int


def stage_costs(run: Run, place: RunFolder) -> tuple[StageCost, ...]:
    """Of each training stage of a finished run, in order."""
    known = json.loads((place.path / "costs.json").read_text(encoding="utf-8"))["stages"]
    device = check_device(run.device)
    context = Context(run, place, device, World(), Watch(World(), run.stall_timeout))
    found = []
    for stage in run.stages():
        if isinstance(stage, Train):
            costs = {name: known[stage.name][name] for name in ("steps", "samples", "seconds", "parameters", "trained")}
            found.append(StageCost(stage.name, **costs, flops=costs["steps"] * _flops(stage, context)))
    return tuple(found)


def _flops(stage: Train, context: Context) -> int:
    """Of a step of a stage: the mean over some batches."""
    settings = stage.settings or context.run
    seed_everything(settings.seed, stage.name, "initialisation")
    task = stage.task(context).to(context.device).train()
    with Loader[Any](stage.source(context), task.processor, settings.batch_size, settings.seed, threads=1) as loader:
        counts = [step_flops(task, [next(loader).to(context.device)]) for _ in range(_COUNTED)]
    return round(sum(counts) / len(counts))
