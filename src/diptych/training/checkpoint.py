"""Checkpoints: everything a stage needs to go on bit for bit, written beside its place and renamed into it.

checkpoints/<stage>-<step>/
    model/            the predictor's folder: what evaluation loads
    training.pt       weights, optimizers, weight average, torch's random state
    state.json        stage, step, samples, seconds, loader position, best value so far
"""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from diptych.capabilities.folder import write_model
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import CheckpointError
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import atomic_folder, write_text
from diptych.training.ema import WeightAverage


@dataclass
class Progress:
    """How far a stage has come.

    Attributes:
        samples: seen by all processes together.
        seconds: of training, over all sessions.
        best: the highest value of the stage's best metric; None before the first evaluation.
        loader: the loader's position.
    """

    stage: str
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best: float | None = None
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
    """torch.save through a plain file, so that a full disk is an OSError (torch's own writer raises RuntimeError)."""
    with path.open("wb") as file:
        torch.save(tensors, file)


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
            f"{folder} is no complete checkpoint: {Path(str(error.filename)).name} is missing"
        ) from error
    except (ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{folder} is truncated or damaged: {error}") from error
    return progress, tensors


def latest(run: RunFolder, stage: str) -> Path | None:
    """The newest complete checkpoint of a stage."""
    own = [folder for folder in run.saved() if folder.name.rpartition("-")[0] == stage]
    return max(own, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def mark_best(run: RunFolder, folder: Path, metric: str, value: float) -> None:
    """Names the best checkpoint in `best.json`."""
    write_text(run.path / "best.json", json.dumps({"checkpoint": folder.name, "metric": metric, "value": value}) + "\n")


def prune(run: RunFolder, stage: str, keep: int) -> None:
    """Removes a stage's older checkpoints, except the best one, and what an interrupted save left behind."""
    best = run.best_model().parent
    own = [f for f in run.saved() if f.name.rpartition("-")[0] == stage]
    own.sort(key=lambda folder: int(folder.name.rpartition("-")[2]))
    for folder in own[:-keep]:
        if folder != best:
            shutil.rmtree(folder)
    for part in run.checkpoints.glob(".*"):
        shutil.rmtree(part)


def restore(
    folder: Path,
    task: nn.Module,
    optimizers: dict[str, Optimizer],
    average: WeightAverage | None,
    tensors: dict[str, Any],
) -> None:
    """Puts the tensors of a checkpoint in their places, strictly.

    Raises:
        CheckpointError: they are those of another model or other settings.
    """
    expected = {name: tensor.shape for name, tensor in task.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors["task"].items()}
    if wrong := [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]:
        raise CheckpointError(f"{folder} is of another model: {sorted(wrong)[0]} differs; start a new run for this one")
    if optimizers.keys() != tensors["optimizers"].keys() or (average is None) != (tensors["average"] is None):
        raise CheckpointError(f"{folder} was saved with other phases or another weight average: restore the settings")
    task.load_state_dict(tensors["task"])
    for phase, optimizer in optimizers.items():
        try:
            optimizer.load_state_dict(tensors["optimizers"][phase])
        except ValueError as error:
            raise CheckpointError(
                f"{folder}: the optimizer of phase '{phase}' has other parameters: {error}"
            ) from error
    if average is not None:
        average.load_state_dict(tensors["average"])
    torch.set_rng_state(tensors["random"])
