"""The loop: forward, backward, stop on a loss that is not finite, clip, step, callbacks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from diptych.adapters.frozen import parameter_counts
from diptych.core.errors import ConfigError, Interrupted, TrainingDiverged
from diptych.core.seeding import seed_everything
from diptych.core.storage import write_text
from diptych.core.task import Batch, Task
from diptych.data.loading.loader import Loader
from diptych.distributed.agree import from_main
from diptych.distributed.watch import COMPUTING, WAITING_FOR_DATA
from diptych.distributed.world import World
from diptych.training import checkpoint, parallel
from diptych.training.backward import backward
from diptych.training.callbacks.base import StepLine
from diptych.training.callbacks.standard import standard_callbacks
from diptych.training.ema import WeightAverage
from diptych.training.interrupt import Interruption
from diptych.training.meter import Meter
from diptych.training.optimizer import clip_gradients, set_learning_rate
from diptych.training.precision import computes_in_bf16
from diptych.training.run import Run
from diptych.training.state import TrainingState
from diptych.training.whole_model import WholeModel

if TYPE_CHECKING:
    from diptych.training.stages import Context, Train


class Trainer:
    """One training stage, from its last checkpoint or its start to its end."""

    def __init__(self, stage: Train, context: Context, settings: Run) -> None:
        self.stage, self.context, self.settings = stage, context, settings
        _require_equal_shares(settings, context.world)
        task = self._fresh_task()
        task.checkpoint_activations(settings.checkpointing)
        if settings.compile:
            for child in task.children():
                child.compile()
        self.wrapped = parallel.wrap(task, context.world, settings.parallel, context.device)
        self.task: Task[Any] = task
        self.optimizers: dict[str, Optimizer] = {
            phase: settings.optimizer.build(groups) for phase, groups in task.trainable().items()
        }
        self.average = WeightAverage(task, settings.ema_decay) if settings.ema_decay else None
        self.state = TrainingState.of(task, self.optimizers, self.average)
        self.whole = WholeModel(self.wrapped, self.average, self._fresh_task)
        self.loader: Loader[Any] = Loader(
            stage.source(context),
            self.task.processor,
            settings.batch_size,
            settings.seed,
            threads=settings.loader_threads,
            world=context.world,
            bad_threshold=settings.bad_threshold,
            bad_log=context.folder.path / "bad_samples.jsonl",
        )
        self._bf16 = computes_in_bf16(settings.precision, context.device.type, context.world)
        self.steps = settings.budget.total_steps(settings.batch_size)
        self.progress = checkpoint.Progress(stage.name)
        self._evaluate = stage.evaluate(context) if stage.evaluate else None
        self._show = stage.show(context) if stage.show else None
        self._resume()
        self.meter = Meter(self.progress.seconds)
        self.callbacks = standard_callbacks(context.folder, settings) if context.world.is_main else []

    def _fresh_task(self) -> Task[Any]:
        """The task as it is before training, the same on every process."""
        seed_everything(self.settings.seed, self.stage.name, "initialisation")
        return self.stage.task(self.context).to(self.context.device)

    def run(self) -> dict[str, Any]:
        """Trains to the end of the budget.

        Returns:
            counts and costs of the stage.

        Raises:
            TrainingDiverged: a loss was not finite; nothing was changed by that step.
            Interrupted: SIGTERM or Ctrl-C came; the state is saved.
        """
        try:
            with Interruption() as interruption, self.loader:
                self._start()
                while self.progress.step < self.steps:
                    self.context.watch.at(self.progress.step + 1, WAITING_FOR_DATA)
                    batch = next(self.loader)
                    self.context.watch.at(self.progress.step + 1, COMPUTING)
                    self._step(batch)
                    number = interruption.agreed(self.context.device)
                    if number is not None:
                        raise Interrupted(number.name, int(number), self._save())
            self._save()
        finally:
            for callback in self.callbacks:
                callback.end()
        return self._costs()

    def _start(self) -> None:
        self.task.train()
        if self.context.world.is_main:
            print(f"{self.stage.name}: {parameter_counts(self.task)}")
        for callback in self.callbacks:
            callback.start(self.stage.name, self.progress.step, self.steps)

    def _step(self, batch: Batch) -> None:
        """One optimizer step of every phase, and what follows it."""
        batches = self._micro_batches(batch)
        lr = self.settings.optimizer.lr * self.settings.schedule.factor(self.progress.step, self.steps)
        losses: dict[str, Tensor] = {}
        for phase in self.task.phases:
            losses, norm = self._phase(batches, phase, lr, losses)
        self.task.after_step()
        if self.average is not None:
            self.average.update()
        self.progress.step += 1
        self.progress.samples += self.settings.batch_size
        self.meter.count(self.settings.batch_size, self.loader.stats.wait)
        self._after_step(losses, norm, lr)

    def _phase(
        self, batches: Sequence[Batch], phase: str, lr: float, before: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        optimizer = self.optimizers[phase]
        optimizer.zero_grad(set_to_none=True)
        seed = (self.settings.seed, self.stage.name, self.progress.step, phase)
        losses = backward(self.wrapped, batches, phase, autocast=self._autocast, seed=seed)
        self._require_finite(losses["loss"], "the loss", losses)
        norm = clip_gradients(optimizer, self.settings.clip_norm or None)
        self._require_finite(norm, "the gradient", losses)
        set_learning_rate(optimizer, lr)
        optimizer.step()
        return {**before, **losses, "loss": losses["loss"] + before.get("loss", 0.0)}, norm

    def _micro_batches(self, batch: Batch) -> Sequence[Batch]:
        on_device = batch.to(self.context.device)
        micro = self.settings.micro_batch
        return on_device.split(micro) if 0 < micro < on_device.num_samples else [on_device]

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._bf16:
            return torch.autocast(self.context.device.type, torch.bfloat16)
        return nullcontext()

    def _require_finite(self, number: Tensor, what: str, losses: dict[str, Tensor]) -> None:
        if math.isfinite(float(number)):
            return
        parts = ", ".join(f"{name} {float(value)}" for name, value in losses.items())
        raise TrainingDiverged(
            f"stage '{self.stage.name}', step {self.progress.step + 1}: {what} is not finite ({parts}). The weights "
            f"before this step are intact; lower optimizer.lr, lengthen schedule.warmup or use precision fp32"
        )

    def _after_step(self, losses: dict[str, Tensor], norm: Tensor, lr: float) -> None:
        """Callbacks, evaluation and checkpoints that are due."""
        step, settings = self.progress.step, self.settings
        for callback in self.callbacks:
            callback.after_step(step)
        evaluated = self._measure() if _due(step, settings.evaluate_every) or step == self.steps else {}
        if _due(step, settings.log_every) or evaluated or step == self.steps:
            self._log(losses, norm, lr, evaluated)
        improved = self._improved(evaluated)
        if _due(step, settings.save_every) or improved:
            self._save(best=improved)

    def _log(self, losses: dict[str, Tensor], norm: Tensor, lr: float, evaluated: dict[str, float]) -> None:
        rate, wait = self.meter.rates()
        values = {name: float(value) for name, value in losses.items()}
        line = StepLine(
            stage=self.stage.name,
            step=self.progress.step,
            samples=self.progress.samples,
            seconds=round(self.meter.seconds, 3),
            loss=values.pop("loss"),
            parts=values,
            lr=lr,
            grad_norm=float(norm),
            images_per_second=rate,
            data_wait=wait,
            summary=self.task.summary(),
            evaluation=evaluated,
        )
        for callback in self.callbacks:
            callback.log(line)

    def _measure(self) -> dict[str, float]:
        """Metrics of the predictor on held-out data, the same on every process; measured on the main one.

        What it is to show is kept beside them.
        """
        if self._evaluate is None and self._show is None:
            return {}
        found: dict[str, float] = {}
        with self.context.watch.busy("evaluating"), self.meter.paused(), torch.random.fork_rng():
            with self.whole.predictor() as predictor:
                if predictor is not None and self._evaluate is not None:
                    found = self._evaluate(predictor)
                if predictor is not None and self._show is not None:
                    kept = self.context.folder.pictures(self.stage.name, self.progress.step)
                    write_text(kept, json.dumps(self._show(predictor)))
            return from_main(found)

    def _improved(self, evaluated: dict[str, float]) -> bool:
        value = evaluated.get(self.stage.best)
        if value is None or (self.progress.best is not None and value <= self.progress.best):
            return False
        self.progress.best, self.progress.best_step = value, self.progress.step
        return True

    def _save(self, best: bool = False) -> str:
        """A checkpoint, which every process takes part in; its name."""
        self.progress.loader = self.loader.state_dict()
        self.progress.seconds = self.meter.seconds
        with self.context.watch.busy("saving"), self.meter.paused():
            folder = checkpoint.save(self.context.folder, self.progress, self.state.tensors(), self.whole.predictor)
        if self.context.world.is_main:
            if best:
                self._mark_best(folder)
            checkpoint.prune(self.context.folder, self.stage.name, self.settings.keep_last)
        return folder.name

    def _mark_best(self, folder: Path) -> None:
        assert self.progress.best is not None
        checkpoint.mark_best(self.context.folder, folder, self.stage.best, self.progress.best)

    def _resume(self) -> None:
        """Goes on from the stage's newest checkpoint, when there is one."""
        folder = checkpoint.latest(self.context.folder, self.stage.name)
        if folder is None:
            return
        self.progress = checkpoint.read_progress(folder)
        self.state.restore(folder / checkpoint.TENSORS)
        self.loader.load_state_dict(self.progress.loader)
        if self.context.world.is_main and self.progress.best_step == self.progress.step:
            self._mark_best(folder)  # a kill may have come between saving it and saying so

    def _costs(self) -> dict[str, Any]:
        stats = self.loader.stats
        return {
            "steps": self.progress.step,
            "samples": self.progress.samples,
            "seconds": round(self.meter.seconds, 2),
            "parameters": sum(p.numel() for p in self.task.parameters()),
            "trained": sum(p.numel() for p in self.task.parameters() if p.requires_grad),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "data": {"read": stats.samples + stats.bad_total, "bad": dict(stats.bad)},
        }


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _require_equal_shares(settings: Run, world: World) -> None:
    """Under FSDP2 every pass is an exchange, so all processes must make the same number of them."""
    if settings.parallel == "fsdp" and settings.batch_size % world.size:
        raise ConfigError(
            f"under parallel fsdp every process needs as many samples: a batch_size of {settings.batch_size} is not "
            f"divisible by {world.size} processes; try {settings.batch_size // world.size * world.size or world.size}"
        )
