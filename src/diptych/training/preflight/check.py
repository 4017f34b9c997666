"""`check`: a few steps of every training stage of a run on real data, measured, before the long run.

It runs in a folder that is thrown away. Stages that make something for later ones are run in full; a training stage
does a few steps, an evaluation and a checkpoint; a report, which needs a trained model, is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from diptych.core.errors import ConfigError, DataError
from diptych.training.preflight.check_trainer import CheckTrainer, Share
from diptych.training.preflight.scratch_run import Tell, scratch_folder, training_stages
from diptych.training.preflight.stage_check import StageCheck
from diptych.training.run import Run
from diptych.training.stages import Context, Train


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
    with scratch_folder(folder) as place:
        tried = training_stages(run, place, tell)
        return [_check_stage(stage, context, processes, folder, tell) for stage, context, _ in tried]


def _check_stage(stage: Train, context: Context, processes: int, folder: Path, tell: Tell) -> StageCheck:
    settings = stage.settings or context.run
    if settings.batch_size < processes:
        raise ConfigError(f"batch_size {settings.batch_size} is smaller than the number of processes, {processes}")
    source = stage.source(context)
    share = -(-settings.batch_size // processes)
    try:
        return CheckTrainer(stage, context, settings, source, Share(processes, share)).measured(folder, tell)
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
