"""The trainer behind `check`: a few steps, an evaluation and a checkpoint, all measured."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from torch import Tensor, nn

from diptych.core.processor import Previewing
from diptych.core.source import Source
from diptych.core.task import Batch
from diptych.data.shards import shards_of
from diptych.training.flops import step_flops
from diptych.training.preflight.machine import finished, free_disk, memory_of, peak_memory, size_of
from diptych.training.preflight.scratch_run import Tell
from diptych.training.preflight.stage_check import (
    DataCheck,
    ModelCheck,
    ModuleSize,
    SpaceCheck,
    StageCheck,
    TensorRow,
    TimeCheck,
)
from diptych.training.run import Run
from diptych.training.stages import Context, Train
from diptych.training.trainer import Trainer

_STEPS, _SECONDS = 5, 20.0
"""Steps that are timed after the first: batches made ahead of the first ones would hide a loader that is too slow. Once
so many seconds have passed, one has to do."""


class Share(NamedTuple):
    """Of one process: how many there are, and its samples of a global batch."""

    processes: int
    samples: int


class CheckTrainer(Trainer):
    """Does a few steps of a stage and reports them as a `StageCheck`.

    Args:
        run: the stage's settings, whose batch is that of all processes.
        source: the stage's, open already.
        share: what of a batch is put through the model here.
    """

    def __init__(self, stage: Train, context: Context, run: Run, source: Source, share: Share) -> None:
        super().__init__(replace(stage, source=lambda _: source), context, replace(run, batch_size=share.samples))
        self.source, self.share, self.run_settings = source, share, run
        self.steps = run.budget.total_steps(run.batch_size)
        self.first_losses: dict[str, float] = {}
        self.first_norm = 0.0
        self.without_gradient: set[str] | None = None

    def measured(self, folder: Path, tell: Tell) -> StageCheck:
        """Steps, an evaluation and a checkpoint.

        Args:
            folder: where the run would lie.
        """
        name, device = self.stage.name, self.context.device
        left = size_of(self.context.folder.path)
        with self.loader:
            tell(f"{name}: a first step, then up to {_STEPS} that are timed")
            self.task.train()
            began = perf_counter()
            batch = next(self.loader)
            self._step(batch)
            finished(device)
            first = perf_counter() - began
            step, wait = self._timed()
            flops = step_flops(self.task, self._micro_batches(batch))
        tell(f"{name}: an evaluation and a checkpoint")
        began = perf_counter()
        metrics = self._measure()
        evaluated = perf_counter()
        checkpoint = self.context.folder.checkpoints / self._save()
        saving = perf_counter() - evaluated
        time = TimeCheck(
            first, step, wait, self.steps, evaluated - began, self._evaluations(), saving, 1 + self._savings()
        )
        kept = self.settings.keep_last + bool(self.stage.evaluate) + 1
        free = free_disk(folder) + size_of(self.context.folder.path)  # of the same disk, and thrown away
        space = SpaceCheck(peak_memory(device), memory_of(device), size_of(checkpoint), kept, left, free)
        data = self._data(batch)
        return StageCheck(name, str(device), self._model(), data, time, space, flops, self.stage.best, metrics)

    def _timed(self) -> tuple[float, float]:
        """Seconds of a step, and the share of them spent waiting for data."""
        began, waited, done = perf_counter(), self.loader.stats.wait, 0
        while done < _STEPS and (done == 0 or perf_counter() - began < _SECONDS):
            self._step(next(self.loader))
            done += 1
        finished(self.context.device)
        seconds = perf_counter() - began
        return seconds / done, (self.loader.stats.wait - waited) / seconds

    def _after_step(self, losses: dict[str, Tensor], norm: Tensor, lr: float) -> None:
        """Remembers the first step's numbers; nothing is logged, evaluated or saved."""
        without = {name for name, p in self.task.named_parameters() if p.grad is None}
        if self.without_gradient is None:
            self.first_losses = {name: float(value) for name, value in losses.items()}
            self.first_norm, self.without_gradient = float(norm), without
        self.without_gradient &= without  # batches of a mixture may each reach other parameters

    def _evaluations(self) -> int:
        """How often the stage evaluates: when it is due, and at the end."""
        every = self.settings.evaluate_every
        if self.stage.evaluate is None:
            return 0
        return -(-self.steps // every) if every else 1

    def _savings(self) -> int:
        """How often the stage saves before its end."""
        every = self.settings.save_every
        return (self.steps - 1) // every if every else 0

    def _model(self) -> ModelCheck:
        optimizers = self.optimizers.values()
        trained = {id(p) for one in optimizers for group in one.param_groups for p in group["params"]}
        states = [state for one in optimizers for state in one.state_dict()["state"].values()]
        wanted = {name: id(p) in trained for name, p in self.task.named_parameters() if p.requires_grad}
        return ModelCheck(
            module_sizes(self.task),
            sum(value.nbytes for state in states for value in state.values() if isinstance(value, Tensor)),
            self.first_losses,
            self.first_norm,
            [name for name, is_trained in wanted.items() if is_trained and name in (self.without_gradient or ())],
            [name for name, is_trained in wanted.items() if not is_trained],
        )

    def _data(self, batch: Batch) -> DataCheck:
        processor, stats = self.task.processor, self.loader.stats
        return DataCheck(
            self.source.name,
            len(self.source),
            shards_of(self.source),
            self.share.processes,
            self.run_settings.batch_size,
            self.share.samples,
            self.steps * self.run_settings.batch_size / len(self.source),
            stats.samples + stats.bad_total,
            dict(stats.bad),
            tensor_rows(batch),
            processor.preview(batch) if isinstance(processor, Previewing) else [],
        )


def module_sizes(task: nn.Module) -> list[ModuleSize]:
    """Parameters by top-level module, below what all of them share ("model.")."""
    named = {tuple(name.split(".")): p for name, p in task.named_parameters()}
    shared = 0
    while len({name[: shared + 1] for name in named}) == 1 and all(len(name) > shared + 1 for name in named):
        shared += 1
    sizes: dict[str, ModuleSize] = {}
    for name, p in named.items():
        before = sizes.get(name[shared], ModuleSize(name[shared], 0, 0))
        trainable = p.numel() if p.requires_grad else 0
        sizes[name[shared]] = ModuleSize(name[shared], before.total + p.numel(), before.trainable + trainable)
    return list(sizes.values())


def tensor_rows(batch: Any) -> list[TensorRow]:
    """Every tensor of a batch, which is a dataclass."""
    rows = []
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and value.numel():
            exact = value.double()
            low, high, mean = float(exact.min()), float(exact.max()), float(exact.mean())
            kind = str(value.dtype).removeprefix("torch.")
            rows.append(TensorRow(field.name, tuple(value.shape), kind, low, high, mean))
    return rows
