"""Checkpoints: everything a stage needs to go on bit for bit, written beside its place and renamed into it.

checkpoints/<stage>-<step>/
    model/            the predictor's folder: what evaluation loads
    training/         weights, optimizers, weight average, torch's random state (state.py)
    state.json        stage, step, samples, seconds, loader position, best value so far; the files of training/
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diptych.capabilities.folder import write_model
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import CheckpointError
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import remove_folder, sweep, write_text
from diptych.distributed.shared_folder import shared_folder
from diptych.distributed.world import current
from diptych.training.state import Tensors, read, write

TENSORS = "training"
_REMOVE = "remove it to go on from the one before"


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


Model = Callable[[], AbstractContextManager[Predictor | None]]


def save(run: RunFolder, progress: Progress, tensors: Tensors, model: Model) -> Path:
    """Writes a checkpoint; one that is there already is that of the same step, and stays. Every process calls it.

    Args:
        model: what is saved for evaluation, on the main process; None on others.

    Raises:
        StorageError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    folder = run.checkpoints / name_of(progress.stage, progress.step)
    with shared_folder(folder) as part:
        if part is None:
            return folder
        write(tensors, part / TENSORS)
        with model() as predictor:
            if predictor is not None:
                (part / "model").mkdir()
                write_model(predictor, part / "model")
        if current().is_main:
            files = {path.name: path.stat().st_size for path in sorted((part / TENSORS).iterdir())}
            (part / "state.json").write_text(json.dumps({**asdict(progress), "files": files}), encoding="utf-8")
    return folder


def read_progress(folder: Path) -> Progress:
    """How far a checkpoint is; says so when a file of its tensors is not what was written.

    Raises:
        CheckpointError: a file is missing, truncated or of something else.
    """
    try:
        plain = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        files = plain.pop("files")
        progress = Progress(**plain)
        sizes = {name: (folder / TENSORS / name).stat().st_size for name in files}
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise CheckpointError(f"{folder} is no complete checkpoint, {missing} is missing: {_REMOVE}") from error
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{folder} is truncated or damaged ({error}): {_REMOVE}") from error
    if (is_of := name_of(progress.stage, progress.step)) != folder.name:
        raise CheckpointError(f"{folder} holds another checkpoint, {is_of}: give it back its name, or remove it")
    if cut := [name for name in files if sizes[name] != files[name]]:
        raise CheckpointError(f"{folder} is truncated or damaged ({cut[0]} has another size): {_REMOVE}")
    return progress


def load(folder: Path) -> tuple[Progress, Tensors]:
    """All of a checkpoint, whole, in this process alone; a run that goes on reads its share (state.py) instead.

    Raises:
        CheckpointError: a file is missing, truncated or of something else.
    """
    return read_progress(folder), read(folder / TENSORS)


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
