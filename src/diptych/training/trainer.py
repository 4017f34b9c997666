"""The loop: forward, backward, stop on a loss that is not finite, clip, step, callbacks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from diptych.core.errors import Interrupted, TrainingDiverged
from diptych.core.seeding import seed_everything
from diptych.core.task import Batch, Task
from diptych.data.loader import Loader
from diptych.training import checkpoint
from diptych.training.backward import backward
from diptych.training.callbacks.base import StepLine
from diptych.training.callbacks.standard import standard_callbacks
from diptych.training.ema import WeightAverage
from diptych.training.interrupt import Interruption
from diptych.training.meter import Meter
from diptych.training.optimizer import clip_gradients, set_learning_rate
from diptych.training.run import Run

if TYPE_CHECKING:
    from diptych.training.stages import Context, Train


class Trainer:
    """One training stage, from its last checkpoint or its start to its end."""

    def __init__(self, stage: Train, context: Context, settings: Run) -> None:
        self.stage, self.context, self.settings = stage, context, settings
        seed_everything(settings.seed, stage.name, "initialisation")
        self.task: Task[Any] = stage.task(context).to(context.device)
        self.task.checkpoint_activations(settings.checkpointing)
        self.optimizers: dict[str, Optimizer] = {
            phase: settings.optimizer.build(groups) for phase, groups in self.task.trainable().items()
        }
        self.average = WeightAverage(self.task, settings.ema_decay) if settings.ema_decay else None
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
        self.steps = settings.budget.total_steps(settings.batch_size)
        self.progress = checkpoint.Progress(stage.name)
        self._evaluate = stage.evaluate(context) if stage.evaluate else None
        self._resume()
        self.wrapped = self._wrapped()
        self.meter = Meter(self.progress.seconds)
        self.callbacks = standard_callbacks(context.folder, settings) if context.world.is_main else []

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
                    self._step(next(self.loader))
                    number = interruption.agreed(self.context.device)
                    if number is not None:
                        raise Interrupted(number.name, int(number), self._save_together())
            self._save()
        finally:
            for callback in self.callbacks:
                callback.end()
        return self._costs()

    def _start(self) -> None:
        self.wrapped.train()
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
        if self.settings.precision == "bf16":
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
        """Metrics of the predictor on held-out data, with the averaged weights where there are any."""
        if self._evaluate is None or not self.context.world.is_main:
            return {}
        with self.meter.paused(), self._averaged(), torch.random.fork_rng():
            self.wrapped.eval()
            found = self._evaluate(self.task.predictor())
            self.wrapped.train()
        return found

    def _improved(self, evaluated: dict[str, float]) -> bool:
        value = evaluated.get(self.stage.best)
        if value is None or (self.progress.best is not None and value <= self.progress.best):
            return False
        self.progress.best, self.progress.best_step = value, self.progress.step
        return True

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.in_place() if self.average is not None else nullcontext()

    def _save(self, best: bool = False) -> str:
        """A checkpoint, on the main process; its name."""
        self.progress.loader = self.loader.state_dict()
        self.progress.seconds = self.meter.seconds
        name = checkpoint.name_of(self.stage.name, self.progress.step)
        if self.context.world.is_main:
            tensors = checkpoint.tensors_of(self.task, self.optimizers, self.average)
            with self.meter.paused(), self._averaged():
                folder = checkpoint.save(self.context.folder, self.progress, tensors, self.task.predictor())
            if best:
                self._mark_best(folder)
            checkpoint.prune(self.context.folder, self.stage.name, self.settings.keep_last)
        return name

    def _save_together(self) -> str:
        """Saves before any process ends: a launcher ends the others as soon as one has."""
        name = self._save()
        if self.context.world.size > 1:
            torch.distributed.barrier()
        return name

    def _mark_best(self, folder: Path) -> None:
        assert self.progress.best is not None
        checkpoint.mark_best(self.context.folder, folder, self.stage.best, self.progress.best)

    def _resume(self) -> None:
        """Goes on from the stage's newest checkpoint, when there is one."""
        folder = checkpoint.latest(self.context.folder, self.stage.name)
        if folder is None:
            return
        self.progress, tensors = checkpoint.load(folder)
        checkpoint.restore(folder, self.task, self.optimizers, self.average, tensors)
        self.loader.load_state_dict(self.progress.loader)
        if self.context.world.is_main and self.progress.best_step == self.progress.step:
            self._mark_best(folder)  # a kill may have come between saving it and saying so

    def _wrapped(self) -> nn.Module:
        if self.settings.compile:
            for child in self.task.children():
                child.compile()
        return DistributedDataParallel(self.task) if self.context.world.size > 1 else self.task

    def _costs(self) -> dict[str, Any]:
        stats = self.loader.stats
        return {
            "steps": self.progress.step,
            "samples": self.progress.samples,
            "seconds": round(self.meter.seconds, 2),
            "parameters": sum(p.numel() for p in self.task.parameters()),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "data": {"read": stats.samples + stats.bad_total, "bad": dict(stats.bad)},
        }


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
