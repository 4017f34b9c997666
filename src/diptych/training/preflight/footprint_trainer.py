"""The trainer behind `plan`: memory and operations of a stage, extrapolated from steps of a few samples.

Steps of two sizes give a line for everything that grows with the batch. So the planned batch may be much larger than
the measured ones, and the machine that measures need not be the one that will train.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.adapters.frozen import parameter_counts
from diptych.core.records.footprint import Footprint, GlobalCost, Line, Moment
from diptych.core.task import Batch, GlobalTask
from diptych.data._pack_members import PictureFormat
from diptych.data.pack import mean_size
from diptych.training import parallel
from diptych.training.flops import Counter
from diptych.training.preflight.global_loss_cost import global_loss_cost, global_loss_memory
from diptych.training.preflight.tensor_memory import Held, TensorMemory
from diptych.training.run import Run
from diptych.training.stages import Context, Train
from diptych.training.trainer import Trainer

_LOADED = 256
"""Samples of the batch that is cut: so many texts have a longest one that is as long as a large batch's."""
_MOST, _FLOPS = 128, 3e11
"""Samples that are followed, and the operations that they may take."""


class _Step(NamedTuple):
    """One step that was followed: samples in a pass and in all, floating point operations, operations, memory."""

    samples: int
    of_all: int
    flops: int
    operations: int
    moments: Sequence[Held]


class FootprintTrainer(Trainer):
    """Does two small steps of a stage and describes it as a `Footprint`.

    Args:
        settings: the stage's.
        processes: that the batch will be spread over.
    """

    def __init__(self, stage: Train, context: Context, settings: Run, processes: int) -> None:
        self.whole_batch, self.share = settings.batch_size, -(-settings.batch_size // processes)
        self.cut_up = 0 < settings.micro_batch < self.share
        self.at_once = settings.micro_batch if self.cut_up else self.share
        loaded = max(min(self.share, _LOADED), 2)  # some tasks tell the samples of a batch apart
        self.source = stage.source(context)
        opened = dataclasses.replace(stage, source=lambda _: self.source)
        super().__init__(opened, context, dataclasses.replace(settings, batch_size=loaded, micro_batch=0))
        self.planned, self._samples = settings, 1

    def footprint(self) -> Footprint:
        """Follows a step of few samples and one of more."""
        with self.loader:
            self.task.train()
            batch = next(self.loader)
        few, many = self._sizes(batch)
        first, second = self._followed(batch, few), self._followed(batch, many)
        loss = self._loss(batch)
        return self._described(batch, first, second, loss)

    def save(self) -> None:
        """A checkpoint, for stages that go on from this one."""
        self._save()

    def _sizes(self, batch: Batch) -> tuple[int, int]:
        """How many samples to follow; the first step also makes the state of the optimizers."""
        most = min(self.at_once, _MOST, batch.num_samples // 2 if self.cut_up else batch.num_samples)
        tried = min(2, most)
        each = self._followed(batch, tried).flops / (tried * (1 + self.cut_up))
        many = max(min(most, int(_FLOPS / max(each, 1.0))), min(tried + 1, most))
        return max(many // 4, min(2, many)), many

    def _followed(self, batch: Batch, samples: int) -> _Step:
        self._samples = samples
        wanted = [p for p in self.task.parameters() if p.requires_grad]
        with Counter() as counter, TensorMemory(wanted) as memory:
            self._step(batch)
        return _Step(samples, samples * (1 + self.cut_up), counter.flops, memory.operations, memory.moments)

    def _micro_batches(self, batch: Batch) -> Sequence[Batch]:
        """The first samples; twice as many in two passes where the planned batch is cut up."""
        return batch.to(self.context.device).split(self._samples)[: 1 + self.cut_up]

    def _after_step(self, losses: dict[str, Tensor], norm: Tensor, lr: float) -> None:
        """Nothing is logged, evaluated or saved."""

    def _loss(self, batch: Batch) -> GlobalCost | None:
        if not isinstance(self.task, GlobalTask):
            return None
        with self._autocast():
            return global_loss_cost(self.task, self._some(batch), self.whole_batch)

    def _loss_memory(self, batch: Batch, step: _Step) -> int:
        """What the loss over the step's own rows took while all activations were there."""
        if not isinstance(self.task, GlobalTask) or self.cut_up:
            return 0
        with self._autocast():
            return global_loss_memory(self.task, self._some(batch), step.of_all)

    def _some(self, batch: Batch) -> Batch:
        return batch.to(self.context.device).split(min(8, batch.num_samples))[0]

    def _described(self, batch: Batch, few: _Step, many: _Step, loss: GlobalCost | None) -> Footprint:
        task, planned = self.task, self.planned
        unit, rest = _shards(task)
        parameters, counts = list(task.parameters()), parameter_counts(task)
        return Footprint(
            stage=self.stage.name,
            parameters=counts.total,
            trained=counts.trained,
            batch_size=self.whole_batch,
            micro_batch=planned.micro_batch,
            steps=planned.budget.total_steps(self.whole_batch),
            precision="bf16" if self._bf16 else "fp32",
            weights=_bytes([*parameters, *task.buffers()]),
            gradients=_bytes(p.grad for p in parameters if p.grad is not None),
            optimizer=_bytes(self._optimizer_state()),
            average=_bytes(self.average.average.values()) if self.average is not None else 0,
            unit=unit,
            rest=rest,
            moments=_moments(few, many, [self._loss_memory(batch, step) for step in (few, many)]),
            batch=Line(0.0, _batch_bytes(batch) / batch.num_samples),
            buffers=self.loader.buffers,
            flops=Line(0.0, _without(loss, many) / many.of_all),
            operations=many.operations // (1 + self.cut_up),
            loss=loss,
            divisible=task.divisible,
            checkpoint=self._checkpoint(),
            kept=planned.keep_last + bool(self.stage.evaluate) + 1,
            source=self.source.name,
            samples=len(self.source),
            packed=self._packed(),
        )

    def _packed(self) -> dict[str, float]:
        """Bytes of a sample, its picture as large as the model's."""
        fields = self.task.processor.layout().values()
        sizes = [one.shape[-2] for one in fields if len(one.shape) >= 3 and one.shape[-1] == 3]
        forms = [PictureFormat("jpeg", max(sizes)), PictureFormat("raw", max(sizes))] if sizes else []
        found = {form.kind: mean_size(self.source, form) for form in forms}
        return {kind: size for kind, size in found.items() if size}

    def _optimizer_state(self) -> list[Tensor]:
        states = [state for one in self.optimizers.values() for state in one.state.values()]
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def _checkpoint(self) -> int:
        """Bytes of what a checkpoint holds: the state of training, and the model beside it."""
        with self.whole.predictor() as predictor:
            assert predictor is not None
            return _bytes(self.state.tensors().values()) + _bytes(predictor.module.state_dict().values())


def _without(loss: GlobalCost | None, step: _Step) -> float:
    """The operations of a step without those of the loss over its batch."""
    return step.flops - (loss.flops_at(step.of_all) if loss is not None else 0.0)


def _moments(few: _Step, many: _Step, losses: Sequence[int]) -> list[Moment]:
    """Lines by the number of gradients that are there; a parameter that only more samples reach adds one.

    Args:
        losses: bytes of the loss over the rows of each step, which are the first moment's and no line.
    """
    found = []
    nothing = Held()
    for index, (low, high) in enumerate(zip_longest(few.moments, many.moments, fillvalue=nothing)):
        less, more = (0, 0) if index else losses
        others = Line.through((few.samples, low.others - less), (many.samples, high.others - more))
        found.append(Moment(max(low.gradients, high.gradients), others))
    return found


def _shards(task: Any) -> tuple[int, int]:
    """Bytes of the largest unit of FSDP2, and of what stands in none."""
    seen: set[int] = set()
    sizes = [_own_bytes(unit, seen) for unit in parallel.units(task)]
    return max(sizes, default=0), _own_bytes(task, seen)


def _own_bytes(module: nn.Module, seen: set[int]) -> int:
    own = [p for p in module.parameters() if id(p) not in seen]
    seen.update(id(p) for p in own)
    return _bytes(own)


def _batch_bytes(batch: Any) -> int:
    return _bytes(v for field in dataclasses.fields(batch) if isinstance(v := getattr(batch, field.name), torch.Tensor))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
