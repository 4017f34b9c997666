"""What a run would take: every number with its interval and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from diptych.core.records.footprint import Footprint
from diptych.guide.calibration import Interval, Overhead, Speed
from diptych.guide.devices import HOST, Device
from diptych.guide.memory import LAYOUTS, Layout, Memory, memory_of

Unit = Literal["", "FLOP", "B", "s", "h", "money"]


@dataclass(frozen=True)
class Entry:
    """One number.

    Attributes:
        about: the group that it belongs to.
        under: how the devices share the model, where the number depends on it.
        low, high: None where it is counted, not estimated.
        why: how it was had.
    """

    about: str
    name: str
    value: float
    unit: Unit
    why: str
    low: float | None = None
    high: float | None = None
    under: str = ""


@dataclass(frozen=True)
class Machine:
    """What is planned for.

    Attributes:
        price: of a device for an hour; 0 where it is not known.
        layout: how several devices share the model.
    """

    count: int
    device: Device
    price: float
    layout: Layout


@dataclass(frozen=True)
class StagePlan:
    """One training stage.

    Attributes:
        overhead, speed: from tensors to what a process holds, and operations a second.
    """

    stage: Footprint
    machine: Machine
    overhead: Overhead
    speed: Speed

    @property
    def buffers(self) -> int:
        """Batches on the device: on a processor, those that the loader makes ahead too."""
        return self.stage.buffers if self.machine.device.name == HOST else 1

    def memory(self, layout: Layout, micro: int | None = None) -> Memory:
        """By part."""
        stage, processes = self.stage, 1 if layout == "one" else self.machine.count
        chosen = stage.micro_batch if micro is None else micro
        return memory_of(stage, layout, stage.batch_size, processes, chosen, self.buffers)

    def tensors(self, batch: int) -> float:
        """Bytes of one process's tensors, at most, for a batch of its own; not cut up."""
        return memory_of(self.stage, "one", batch, 1, self.stage.micro_batch, self.buffers).together

    def held(self, layout: Layout, micro: int | None = None) -> Interval:
        """By a process, or of a GPU's memory, at most."""
        return self.overhead.of(self.memory(layout, micro).together)

    @property
    def flops(self) -> float:
        """Of all steps and devices."""
        return self.stage.steps * self.stage.step_flops(self.stage.batch_size, self.machine.count)

    @property
    def hours(self) -> Interval:
        """Of the machine."""
        stage, count = self.stage, self.machine.count
        flops = stage.step_flops(stage.batch_size, count) / count
        kernels = stage.operations * stage.passes(stage.batch_size, count)
        return _scaled(self.speed.seconds(flops, kernels), stage.steps / 3600)

    @property
    def layouts(self) -> list[Layout]:
        """To be compared."""
        return ["one", "ddp", "fsdp"] if self.machine.count > 1 else ["one"]

    def entries(self) -> list[Entry]:
        """Everything."""
        return [*self._model(), *self._compute(), *self._memory(), *self._disk()]

    def _model(self) -> Iterator[Entry]:
        stage = self.stage
        yield Entry("parameters", "all", stage.parameters, "", "counted")
        yield Entry("parameters", "trained", stage.trained, "", "counted: those that have an optimizer's step")
        yield Entry("parameters", "frozen", stage.parameters - stage.trained, "", "all less the trained")

    def _compute(self) -> Iterator[Entry]:
        stage, machine = self.stage, self.machine
        step = stage.step_flops(stage.batch_size, machine.count)
        yield Entry("compute", "samples", stage.steps * stage.batch_size, "", f"{stage.steps:,} x {stage.batch_size:,}")
        yield Entry("compute", "a step", step, "FLOP", "counted at two small batches" + _of_loss(stage))
        yield Entry("compute", "all steps", self.flops, "FLOP", f"{stage.steps:,} steps")
        hours = self.hours
        yield _estimate("compute", "a step", _scaled(hours, 3600 / stage.steps), "s", self.speed.why)
        yield _estimate("compute", "the stage", hours, "h", f"{machine.count} {machine.device.name}, loader keeping up")
        yield _estimate("compute", "device hours", _scaled(hours, machine.count), "h", "hours x devices")
        if machine.price:
            cost = _scaled(hours, machine.count * machine.price)
            yield _estimate("compute", "money", cost, "money", f"{machine.price:g} a device and hour")

    def _memory(self) -> Iterator[Entry]:
        for layout in self.layouts:
            memory, under = self.memory(layout), LAYOUTS[layout]
            for name, why in _PARTS.items():
                yield Entry(MEMORY, name, float(getattr(memory, name)), "B", why, under=under)
            held = self.held(layout)
            yield Entry(MEMORY, "held", held.value, "B", self.overhead.why, held.low, held.high, under)

    def _disk(self) -> Iterator[Entry]:
        stage = self.stage
        why = "weights, optimizer, average, and the model beside them"
        yield Entry("storage", "a checkpoint", stage.checkpoint, "B", why)
        yield Entry("storage", "checkpoints", stage.kept * stage.checkpoint, "B", f"{stage.kept} at once")
        for kind, size in stage.packed.items():
            why = f"{stage.samples:,} samples of {stage.source}, {size:,.0f} B each packed at the model's size"
            yield Entry("storage", f"data as {kind}", size * stage.samples, "B", why)


MEMORY = "memory of a device"
_PARTS = {
    "weights": "parameters and buffers",
    "gradients": "once all are there",
    "optimizer": "its state, measured after a step",
    "average": "of the weights",
    "exchange": "buckets (DDP) or blocks that are whole for a moment (FSDP2), by formula",
    "batches": "tensors of a batch, times the batches held at once",
    "activations": "what the passes make, followed at two small batches",
    "loss": "over the global batch, with the gathered rows",
    "together": "the most at once, less than the sum: gradients come while activations go",
}


def _of_loss(stage: Footprint) -> str:
    if stage.loss is None:
        return ""
    measured = f"measured at {stage.loss.largest:,} rows"
    return f"; the loss over {stage.batch_size:,} rows {measured}" + (
        " and extrapolated" if stage.loss.largest < stage.batch_size else ""
    )


def _scaled(some: Interval, by: float) -> Interval:
    return Interval(*(value * by for value in some))


def _estimate(about: str, name: str, some: Interval, unit: Unit, why: str) -> Entry:
    return Entry(about, name, some.value, unit, why, some.low, some.high)


def totals(plans: Sequence[StagePlan]) -> list[Entry]:
    """Over the training stages."""
    hours = Interval(*(sum(ends) for ends in zip(*(plan.hours for plan in plans), strict=True)))
    machine = plans[0].machine
    found = [
        Entry("all stages", "all steps", sum(plan.flops for plan in plans), "FLOP", "sum of the stages"),
        _estimate("all stages", "hours", hours, "h", "without evaluations and what is no training"),
    ]
    if machine.price:
        cost = _scaled(hours, machine.count * machine.price)
        found.append(_estimate("all stages", "money", cost, "money", f"{machine.price:g} a device and hour"))
    return found
