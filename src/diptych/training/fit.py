"""`fit`: runs a run, stage by stage, in its folder."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from diptych.capabilities.load import check_device
from diptych.core.config import to_plain
from diptych.core.errors import ConfigError
from diptych.core.records.environment import environment
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import sweep, write_text
from diptych.distributed.watch import Watch
from diptych.distributed.world import World, joined
from diptych.training.run import Run
from diptych.training.stages import Context


def fit(run: Run, folder: Path | str, *, resume: bool = False) -> RunFolder:
    """Runs every stage that is not done yet.

    Args:
        run: the resolved configuration.
        folder: of the run; made when it is not there.
        resume: go on with what is in the folder; without it a folder that holds a run is refused.

    Raises:
        ConfigError: the folder holds a run already, or one of another configuration.
        StorageError: the folder cannot be written.
        Interrupted: a signal came; the state is saved.
    """
    device = check_device(run.device)
    run = replace(run, device=str(device))  # what "auto" came to is written down
    if run.threads:
        torch.set_num_threads(run.threads)
    place = RunFolder(Path(folder))
    with joined(device) as world, Watch(world, run.stall_timeout) as watch:
        _run_stages(run, place, world, resume, watch)
    return place


def _run_stages(run: Run, place: RunFolder, world: World, resume: bool, watch: Watch) -> None:
    if world.is_main:
        _prepare(place, run, resume)
    if world.size > 1:
        torch.distributed.barrier()
    context = Context(run, place, _device(run), world, watch)
    waiting = [stage for stage in run.stages() if not stage.done(context)]
    if world.size > 1:
        torch.distributed.barrier()  # all have looked before the first one makes something
    if waiting and world.is_main:
        # Of the session that makes something: what resumes a finished run is not what its weights came from.
        write_text(place.environment, json.dumps(environment(), indent=2) + "\n")
    for stage in waiting:
        # Outside its training loop, which reports every step, a stage may take as long as it likes.
        with watch.busy(f"in stage {stage.name}"):
            costs = stage.run(context)
            if world.is_main:
                _record(place, stage.name, costs)
                stage.finish(context)


def _device(run: Run) -> torch.device:
    """This process's device: under torchrun each takes its own GPU."""
    local = os.environ.get("LOCAL_RANK")
    if run.device == "cuda" and local is not None:
        return torch.device("cuda", int(local))
    return torch.device(run.device)


def _prepare(place: RunFolder, run: Run, resume: bool) -> None:
    """Writes what the run depends on; refuses to mix two runs in one folder."""
    plain = to_plain(run)
    if resume:
        sweep(place.path)
        sweep(place.path / "artifacts")
    if RunFolder.is_one(place.path) and (resume or place.begun):
        if not resume:
            raise ConfigError(
                f"{place.path} holds a run already: --resume latest goes on with it, --run names another folder"
            )
        _require_same(yaml.safe_load(place.config.read_text(encoding="utf-8")), plain, place)
    else:
        write_text(place.config, yaml.safe_dump(plain, sort_keys=False))


# What may change between two sessions of one run without changing what is computed.
_FREE = {
    *("data", "device", "threads", "loader_threads", "micro_batch", "checkpointing", "compile", "bad_threshold"),
    *("parallel", "stall_timeout"),
    *("log_every", "evaluate_every", "save_every", "keep_last", "wandb"),
}


def _require_same(before: dict[str, Any], now: dict[str, Any], place: RunFolder) -> None:
    changed = [name for name in now if name not in _FREE and before.get(name) != now[name]]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"cannot resume {place.path} with another '{name}' ({before.get(name)} there, {now[name]} now): "
            f"restore it, or start a new run with --run"
        )


def _record(place: RunFolder, stage: str, costs: dict[str, Any]) -> None:
    """Adds a finished stage to `costs.json`, and what its data lost on the way to `data.json`."""
    data = costs.pop("data", None)
    if data is not None:
        path = place.path / "data.json"
        write_text(path, json.dumps({**_known(path), stage: data}, indent=2) + "\n")
    if costs:
        path = place.path / "costs.json"
        stages = {**_known(path).get("stages", {}), stage: costs}
        total = {
            "seconds": round(sum(one["seconds"] for one in stages.values()), 2),
            "parameters": max(one["parameters"] for one in stages.values()),
        }
        write_text(path, json.dumps({**total, "stages": stages}, indent=2) + "\n")


def _known(path: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return known
