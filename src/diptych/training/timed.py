"""Steps of a run in a process of its own, timed, and the most memory that the process held.

`python -m diptych.training.timed JSON` does what JSON says and prints a line of JSON for each training stage: what
`plan --probe` calibrates itself by, with a part of the batch, and what its predictions are compared with, with all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from diptych.capabilities.load import check_device
from diptych.core.allocator import keep_large_blocks
from diptych.core.errors import ConfigError, DiptychError
from diptych.core.task import Batch
from diptych.training.configured import overridden, recipe
from diptych.training.machine import finished, peak_memory, resident
from diptych.training.run import Run
from diptych.training.stages import Context, Train
from diptych.training.trainer import Trainer
from diptych.training.tried import throw_away, trainings


@dataclass(frozen=True)
class Trial:
    """What to run.

    Attributes:
        recipe: as `diptych train` names it.
        arguments: its fields.
        parts: a process takes one of so many parts of a batch (at least two samples).
        steps, seconds: most steps that are timed, and the time after which no further one is begun.
    """

    recipe: str
    arguments: tuple[str, ...] = ()
    parts: int = 1
    steps: int = 4
    seconds: float = 20.0


@dataclass(frozen=True)
class Timed:
    """What a stage's steps took.

    Attributes:
        batch: samples of a step.
        idle: bytes that the process held before it opened data or built a task; 0 for the memory of a GPU.
        peak: the most that it held.
        seconds: of a step, the median: on one thread of a processor the time that this thread computed, which others
            on the machine do not change; otherwise the time that passed.
        steps: that were timed.
    """

    stage: str
    batch: int
    idle: int
    peak: int
    seconds: float
    steps: int


def timed(trial: Trial) -> list[Timed]:
    """Runs a trial in a process of its own.

    Raises:
        ConfigError: it failed; the process's last line says why.
    """
    command = [sys.executable, "-m", "diptych.training.timed", json.dumps(asdict(trial))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        raise ConfigError(f"the probe of {trial.recipe} failed: {said[-1]}")
    return [Timed(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith('{"stage"')]


def main(arguments: Sequence[str]) -> int:
    """The process of `timed`."""
    keep_large_blocks()
    plain = json.loads(arguments[0])
    trial = Trial(**{**plain, "arguments": tuple(plain["arguments"])})
    try:
        run = overridden(recipe(trial.recipe), list(trial.arguments), trial.recipe)
        for found in _stages(run, trial):
            print(json.dumps(asdict(found)), flush=True)
    except DiptychError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _stages(run: Run, trial: Trial) -> list[Timed]:
    idle = 0 if check_device(run.device).type == "cuda" else resident()
    found = []
    with throw_away(Path("runs")) as place:
        for stage, context, needed in trainings(run, place, lambda line: None):
            steps = _Steps(stage, context, stage.settings or context.run, trial)
            found.append(steps.timed(idle))
            if needed:
                steps.save()
    return found


class _Steps(Trainer):
    """Some steps of a stage and nothing else."""

    def __init__(self, stage: Train, context: Context, settings: Run, trial: Trial) -> None:
        batch = max(settings.batch_size // trial.parts, 2)
        super().__init__(stage, context, replace(settings, batch_size=batch))
        self.trial = trial
        single = context.device.type == "cpu" and torch.get_num_threads() == 1
        self._clock: Callable[[], float] = time.thread_time if single else time.perf_counter

    def timed(self, idle: int) -> Timed:
        """Steps on two batches in turn, which take memory as they differ; no step waits for data."""
        seconds: list[float] = []
        self.task.train()
        with self.loader:
            batches = [next(self.loader) for _ in range(2)]
            for batch in batches:
                self._one(batch)  # warms up
            began = time.perf_counter()
            for batch in cycle(batches):
                seconds.append(self._one(batch))
                if len(seconds) == self.trial.steps or time.perf_counter() - began > self.trial.seconds:
                    break
        peak = peak_memory(self.context.device)
        return Timed(self.stage.name, self.settings.batch_size, idle, peak, median(seconds), len(seconds))

    def _one(self, batch: Batch) -> float:
        finished(self.context.device)
        began = self._clock()
        self._step(batch)
        finished(self.context.device)
        return self._clock() - began

    def save(self) -> None:
        """A checkpoint, for stages that go on from this one."""
        self._save()

    def _after_step(self, losses: dict[str, Tensor], norm: Tensor, lr: float) -> None:
        """Nothing is logged, evaluated or saved."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
