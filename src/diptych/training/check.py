"""`check`: a few steps of every training stage of a run on real data, measured, before the long run.

It runs in a folder that is thrown away. Stages that make something for later ones are run in full; a training stage
does a few steps, an evaluation and a checkpoint; a report, which needs a trained model, is left out.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import torch
import yaml

from diptych.capabilities.load import check_device
from diptych.core.config import to_plain
from diptych.core.errors import ConfigError, DataError
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import storage_errors, write_text
from diptych.distributed.watch import Watch
from diptych.distributed.world import World
from diptych.training.checked import StageCheck
from diptych.training.machine import nearest_folder
from diptych.training.probe import Probe, Share, Tell
from diptych.training.run import Run
from diptych.training.stages import Context, Report, Train


def check(run: Run, folder: Path, *, processes: int = 1, tell: Tell = lambda line: None) -> list[StageCheck]:
    """Tries every training stage of a run.

    Args:
        run: the resolved configuration.
        folder: where the run would lie; its disk is measured, and the throw-away folder lies beside it.
        processes: how many the run would have; one of them, with its share of the batch, is run here.
        tell: is told what is being done.

    Raises:
        DiptychError: what the run itself would be stopped by.
    """
    device = check_device(run.device)
    if run.threads:
        torch.set_num_threads(run.threads)
    found = []
    with _throw_away(nearest_folder(folder)) as place:
        write_text(place.config, yaml.safe_dump(to_plain(run), sort_keys=False))
        context = Context(run, place, device, World(), Watch(World(), run.stall_timeout))
        for stage in run.stages():
            if isinstance(stage, Train):
                tell(f"{stage.name}: opening the data and building the task")
                found.append(_check_stage(stage, context, processes, folder, tell))
            elif isinstance(stage, Report):
                tell(f"{stage.name}: left out, it reads the trained model")
            else:
                tell(f"{stage.name}: run in full, a later stage needs it")
                stage.run(context)
    return found


@contextmanager
def _throw_away(parent: Path) -> Iterator[RunFolder]:
    """A folder that is gone at the end, also after Ctrl-C and SIGTERM."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    mine = threading.current_thread() is threading.main_thread()  # others may not set handlers
    before = signal.signal(signal.SIGTERM, stop) if mine else None
    try:
        with storage_errors(parent):
            temporary = TemporaryDirectory(prefix=".diptych-check-", dir=parent)
        with temporary as name:
            yield RunFolder(Path(name))
    finally:
        if mine:
            signal.signal(signal.SIGTERM, before)


def _check_stage(stage: Train, context: Context, processes: int, folder: Path, tell: Tell) -> StageCheck:
    settings = stage.settings or context.run
    if settings.batch_size < processes:
        raise ConfigError(f"batch_size {settings.batch_size} is smaller than the number of processes, {processes}")
    source = stage.source(context)
    share = -(-settings.batch_size // processes)
    try:
        return Probe(stage, context, settings, source, Share(processes, share)).measured(folder, tell)
    except DataError as error:
        raise _with_keys(error, context.folder.path / "bad_samples.jsonl") from error
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"stage '{stage.name}': a step with batch_size {share} does not fit into the memory of {context.device}: "
            f"set micro_batch or checkpointing, or lower batch_size"
        ) from error


def _with_keys(error: DataError, log: Path) -> DataError:
    """The error with keys instead of the path of a log that is thrown away."""
    said, named, _ = str(error).partition(f"; their keys are in {log}")
    if not named:
        return error
    keys = [json.loads(line)["key"] for line in log.read_text(encoding="utf-8").splitlines()[:3]]
    return DataError(f"{said}; for example {', '.join(keys)}")
