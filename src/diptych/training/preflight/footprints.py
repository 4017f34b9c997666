"""What every training stage of a run takes: measured on a few samples here, for a run on other machines."""

from __future__ import annotations

from pathlib import Path

from diptych.core.errors import ConfigError
from diptych.core.records.footprint import Footprint
from diptych.training.preflight.footprint_trainer import FootprintTrainer
from diptych.training.preflight.scratch_run import Tell, scratch_folder, training_stages
from diptych.training.run import Run
from diptych.training.stages import Train


def footprints(run: Run, folder: Path, *, processes: int = 1, tell: Tell = lambda line: None) -> list[Footprint]:
    """What each training stage takes.

    Args:
        run: the resolved configuration; its device is where the samples are followed.
        folder: where the throw-away folder lies beside.
        processes: how many the run would have.
        tell: is told what is being done.

    Raises:
        ConfigError: a stage's batch cannot be spread over so many processes evenly.
        DiptychError: what the run itself would be stopped by.
    """
    for stage in run.stages():
        if isinstance(stage, Train):
            _require_even(stage.name, (stage.settings or run).batch_size, processes)
    found = []
    with scratch_folder(folder) as place:
        for stage, context, needed in training_stages(run, place, tell):
            settings = stage.settings or context.run
            followed = FootprintTrainer(stage, context, settings, processes)
            tell(f"{stage.name}: following a few samples")
            found.append(followed.footprint())
            if needed:
                followed.save()
    return found


def _require_even(stage: str, batch: int, processes: int) -> None:
    if batch % processes:
        near = sorted({max(batch // processes, 1) * processes, -(-batch // processes) * processes})
        raise ConfigError(
            f"stage '{stage}': a batch of {batch:,} is not divisible by {processes} devices: take "
            f"{' or '.join(f'{size:,}' for size in near)}, or other --gpus"
        )
