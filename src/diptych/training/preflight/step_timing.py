"""Seconds of a training step and peak memory of its process, measured in a process of its own.

`python -m diptych.training.preflight.step_timing JSON` takes a `TimingRequest` and prints a `StepTiming` for each
training stage. `plan --probe` calibrates itself with timings of parts of the batch; benchmarks compare what it predicts
with timings of whole batches.
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
from diptych.training.preflight.machine import finished, held_memory, peak_memory
from diptych.training.preflight.scratch_run import scratch_folder, training_stages
from diptych.training.run import Run
from diptych.training.stages import Context, Train
from diptych.training.trainer import Trainer


@dataclass(frozen=True)
class TimingRequest:
    """Which run to time, and for how long.

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
class StepTiming:
    """What a stage's steps took.

    Attributes:
        batch: samples of a step.
        idle: bytes that were held before data were opened or a task was built; none of a GPU's.
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


def time_steps(request: TimingRequest) -> list[StepTiming]:
    """Times a run's training steps in a process of its own.

    Raises:
        ConfigError: it failed; the process's last line says why.
    """
    command = [sys.executable, "-m", "diptych.training.preflight.step_timing", json.dumps(asdict(request))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        raise ConfigError(f"the probe of {request.recipe} failed: {said[-1]}")
    return [StepTiming(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith('{"stage"')]


def main(arguments: Sequence[str]) -> int:
    """The process that `time_steps` starts."""
    keep_large_blocks()
    plain = json.loads(arguments[0])
    request = TimingRequest(**{**plain, "arguments": tuple(plain["arguments"])})
    try:
        run = overridden(recipe(request.recipe), list(request.arguments), request.recipe)
        for found in _stages(run, request):
            print(json.dumps(asdict(found)), flush=True)
    except DiptychError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _stages(run: Run, request: TimingRequest) -> list[StepTiming]:
    idle = held_memory(check_device(run.device))
    found = []
    with scratch_folder(Path("runs")) as place:
        for stage, context, needed in training_stages(run, place, lambda line: None):
            steps = _TimingTrainer(stage, context, stage.settings or context.run, request)
            found.append(steps.timing(idle))
            if needed:
                steps.save()
    return found


class _TimingTrainer(Trainer):
    """Does some steps of a stage and nothing else."""

    def __init__(self, stage: Train, context: Context, settings: Run, request: TimingRequest) -> None:
        batch = max(settings.batch_size // request.parts, 2)
        super().__init__(stage, context, replace(settings, batch_size=batch))
        self.request = request
        single = context.device.type == "cpu" and torch.get_num_threads() == 1
        self._clock: Callable[[], float] = time.thread_time if single else time.perf_counter

    def timing(self, idle: int) -> StepTiming:
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
                if len(seconds) == self.request.steps or time.perf_counter() - began > self.request.seconds:
                    break
        peak = peak_memory(self.context.device)
        return StepTiming(self.stage.name, self.settings.batch_size, idle, peak, median(seconds), len(seconds))

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
