"""Checkpoints: everything a stage needs to go on bit for bit, written beside its place and renamed into it.

checkpoints/<stage>-<step>/
    model/            the predictor's folder: what evaluation loads
    training.pt       weights, optimizers, weight average, torch's random state
    state.json        stage, step, samples, seconds, loader position, best value so far
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from diptych.capabilities.folder import write_model
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import CheckpointError, StorageError
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import atomic_folder, remove_folder, sweep, write_text
from diptych.training.ema import WeightAverage

PARTS = {"task", "optimizers", "average", "random"}
"""What `training.pt` holds."""

# What torch.load and json.loads raise on bytes that were cut off or changed.
_DAMAGED = (OSError, ValueError, TypeError, RuntimeError, EOFError, LookupError, AttributeError, pickle.UnpicklingError)
_REMOVE = "remove it to go on from the one before"
_RESTORE = "restore the settings of the run, or start a new one"


@dataclass
class Progress:
    """How far a stage has come.

    Attributes:
        samples: seen by all processes together.
        seconds: of training, over all sessions.
        best: the highest value of the stage's best metric; None before the first evaluation.
        best_step: where it was measured.
        loader: the loader's position.
    """

    stage: str
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    loader: dict[str, Any] = field(default_factory=dict)


def name_of(stage: str, step: int) -> str:
    """The folder name of a checkpoint."""
    return f"{stage}-{step:08d}"


def save(run: RunFolder, progress: Progress, tensors: dict[str, Any], predictor: Predictor) -> Path:
    """Writes a checkpoint; one that is there already is that of the same step, and stays.

    Raises:
        StorageError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    folder = run.checkpoints / name_of(progress.stage, progress.step)
    if folder.exists():
        return folder
    with atomic_folder(folder) as part:
        (part / "model").mkdir()
        write_model(predictor, part / "model")
        _write_tensors(tensors, part / "training.pt")
        (part / "state.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    return folder


def _write_tensors(tensors: dict[str, Any], path: Path) -> None:
    """torch.save, whose writer of archives hides an OSError behind a RuntimeError of its own."""
    try:
        with path.open("wb") as file:
            torch.save(tensors, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise StorageError(f"cannot write {path}: {error}") from error


def load(folder: Path) -> tuple[Progress, dict[str, Any]]:
    """Reads a checkpoint.

    Raises:
        CheckpointError: a file is missing, truncated or of something else.
    """
    try:
        progress = Progress(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
        tensors = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is no complete checkpoint, {Path(str(error.filename)).name} is missing: {_REMOVE}"
        ) from error
    except _DAMAGED as error:
        raise CheckpointError(f"{folder} is truncated or damaged ({_first_line(error)}): {_REMOVE}") from error
    if (is_of := name_of(progress.stage, progress.step)) != folder.name:
        raise CheckpointError(f"{folder} holds another checkpoint, {is_of}: give it back its name, or remove it")
    if not isinstance(tensors, dict) or tensors.keys() != PARTS:
        raise CheckpointError(f"{folder / 'training.pt'} is not the state of a training: {_REMOVE}")
    return progress, tensors


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def latest(run: RunFolder, stage: str) -> Path | None:
    """The newest complete checkpoint of a stage."""
    own = _of_stage(run, stage)
    return own[-1] if own else None


def _of_stage(run: RunFolder, stage: str) -> list[Path]:
    """A stage's complete checkpoints by step."""
    own = [folder for folder in run.saved() if folder.name.rpartition("-")[0] == stage]
    return sorted(own, key=lambda folder: int(folder.name.rpartition("-")[2]))


def mark_best(run: RunFolder, folder: Path, metric: str, value: float) -> None:
    """Names the best checkpoint in `best.json`."""
    write_text(run.path / "best.json", json.dumps({"checkpoint": folder.name, "metric": metric, "value": value}) + "\n")


def prune(run: RunFolder, stage: str, keep: int) -> None:
    """Removes a stage's older checkpoints, except the best one, and what an interrupted save or prune left behind.

    Raises:
        StorageError: a folder cannot be removed.
    """
    best = run.best_model().parent
    sweep(run.checkpoints)
    for folder in _of_stage(run, stage)[:-keep]:
        if folder != best:
            remove_folder(folder)


def tensors_of(task: nn.Module, optimizers: dict[str, Optimizer], average: WeightAverage | None) -> dict[str, Any]:
    """What `restore` puts back: `training.pt`."""
    return {
        "task": {name: tensor.detach().cpu().clone() for name, tensor in task.state_dict().items()},
        "optimizers": {phase: optimizer.state_dict() for phase, optimizer in optimizers.items()},
        "average": average.state_dict() if average is not None else None,
        "random": torch.get_rng_state(),
    }


def restore(
    folder: Path,
    task: nn.Module,
    optimizers: dict[str, Optimizer],
    average: WeightAverage | None,
    tensors: dict[str, Any],
) -> None:
    """Puts the tensors of a checkpoint in their places, strictly: all of them or none.

    Raises:
        CheckpointError: they are those of another model or other settings.
    """
    _require_fit(folder, task, optimizers, average, tensors)
    task.load_state_dict(tensors["task"])
    for phase, optimizer in optimizers.items():
        optimizer.load_state_dict(tensors["optimizers"][phase])
    if average is not None:
        average.load_state_dict(tensors["average"])
    torch.set_rng_state(tensors["random"])


def _require_fit(
    folder: Path,
    task: nn.Module,
    optimizers: dict[str, Optimizer],
    average: WeightAverage | None,
    tensors: dict[str, Any],
) -> None:
    expected = {name: tensor.shape for name, tensor in task.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors["task"].items()}
    if wrong := [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]:
        raise CheckpointError(f"{folder} is of another model: {sorted(wrong)[0]} differs; start a new run for this one")
    if optimizers.keys() != tensors["optimizers"].keys() or (average is None) != (tensors["average"] is None):
        raise CheckpointError(f"{folder} was saved with other phases or another weight average: {_RESTORE}")
    for phase, optimizer in optimizers.items():
        if _group_sizes(optimizer.state_dict()) != _group_sizes(tensors["optimizers"][phase]):
            raise CheckpointError(f"{folder}: the optimizer of phase '{phase}' has other parameters: {_RESTORE}")
    if average is not None and average.average.keys() != tensors["average"]["average"].keys():
        raise CheckpointError(f"{folder}: the weight average is of other parameters: {_RESTORE}")


def _group_sizes(state: dict[str, Any]) -> list[int]:
    return [len(group["params"]) for group in state["param_groups"]]
