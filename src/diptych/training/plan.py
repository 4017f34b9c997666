"""`plan`: follows a few samples through every training stage of a run, on this machine, for a run on others."""

from __future__ import annotations

from pathlib import Path

from diptych.core.errors import ConfigError
from diptych.core.records.footprint import Footprint
from diptych.training.footprint import Followed
from diptych.training.run import Run
from diptych.training.stages import Train
from diptych.training.tried import Tell, throw_away, trainings


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
    with throw_away(folder) as place:
        for stage, context, needed in trainings(run, place, tell):
            settings = stage.settings or context.run
            followed = Followed(stage, context, settings, processes)
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
