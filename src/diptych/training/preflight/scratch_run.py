"""A run in a folder that is deleted at the end, where `check` and `plan` try its training stages."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import torch
import yaml

from diptych.capabilities.load import check_device
from diptych.core.config import to_plain
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import storage_errors, write_text
from diptych.distributed.watch import Watch
from diptych.distributed.world import World
from diptych.training.preflight.machine import nearest_folder
from diptych.training.run import Run
from diptych.training.stages import Context, Report, Stage, Train

Tell = Callable[[str], None]


@contextmanager
def scratch_folder(folder: Path) -> Iterator[RunFolder]:
    """A folder beside one that may not be there yet; gone at the end, also after Ctrl-C and SIGTERM."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    parent = nearest_folder(folder)
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


def training_stages(run: Run, place: RunFolder, tell: Tell) -> Iterator[tuple[Train, Context, bool]]:
    """Each training stage, and whether a later stage needs a checkpoint of it; what stands between is run in full.

    Args:
        place: of `scratch_folder`.
        tell: is told what is being done.
    """
    device = check_device(run.device)
    run = replace(run, device=str(device))
    if run.threads:
        torch.set_num_threads(run.threads)
    write_text(place.config, yaml.safe_dump(to_plain(run), sort_keys=False))
    context = Context(run, place, device, World(), Watch(World(), run.stall_timeout))
    stages = run.stages()
    for index, stage in enumerate(stages):
        if isinstance(stage, Train):
            tell(f"{stage.name}: opening the data and building the task")
            yield stage, context, _needed(stages[index + 1 :])
        elif isinstance(stage, Report):
            tell(f"{stage.name}: left out, it reads the trained model")
        elif _needed(stages[index:]):
            tell(f"{stage.name}: run in full, a later stage needs it")
            stage.run(context)


def _needed(later: Sequence[Stage]) -> bool:
    """Whether something is still to be tried."""
    return any(isinstance(stage, Train) for stage in later)
