"""From what tensors take to what a process holds and how long a step is: assumed, or measured by a probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diptych.guide.devices import GB, HOST, Device


class Observed(NamedTuple):
    """A step of a probe.

    Attributes:
        batch: its samples.
        memory: bytes above the idle process.
        seconds: of the step.
    """

    batch: int
    memory: int
    seconds: float


class Interval(NamedTuple):
    """A number, and what it lies between."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Overhead:
    """What is held besides tensors: a + b * tensors, with a and b between bounds.

    Attributes:
        why: where the numbers come from.
    """

    fixed: Interval
    factor: Interval
    why: str

    def of(self, tensors: float) -> Interval:
        return Interval(*(a + b * tensors for a, b in zip(self.fixed, self.factor, strict=True)))


@dataclass(frozen=True)
class Speed:
    """Of one device, for this model.

    Attributes:
        rate: floating point operations a second.
        launch: seconds that every kernel takes at least, however small.
    """

    rate: Interval
    launch: Interval
    why: str

    def seconds(self, flops: float, kernels: int) -> Interval:
        """Of a step: the launches go on while the device computes, so the longer of the two counts."""
        slow, value, fast = (max(flops / r, kernels * least) for r, least in zip(self.rate, self.launch, strict=True))
        return Interval(fast, value, slow)


_NONE = Interval(0.0, 0.0, 0.0)
_LAUNCH = Interval(15e-6, 8e-6, 4e-6)
"""Of an eager PyTorch operation on a GPU (assumed); from the slowest, as rates are."""
FACTOR = (1.0, 1.8)
"""A process holds what its tensors hold at least; allocators lose up to so much between blocks."""
SPREAD = 0.25, 0.15
"""How far time and memory may be from a probe's prediction: what benchmarks/plan.py holds them to."""


def assumed_overhead(device: Device) -> Overhead:
    """Without a probe."""
    if device.name == HOST:
        why = "libraries 0.05 to 0.3 GB, and up to 80 % lost between blocks (docs/plan.md)"
        return Overhead(Interval(0.05 * GB, 0.08 * GB, 0.3 * GB), Interval(1.0, 1.4, 1.8), why)
    why = "0.5 to 1.5 GB for the CUDA context and libraries, 2 to 20 % lost between blocks (assumed)"
    return Overhead(Interval(0.5 * GB, 1.0 * GB, 1.5 * GB), Interval(1.02, 1.08, 1.2), why)


def assumed_speed(device: Device, precision: str) -> Speed:
    """Without a probe: the device's peak and the share that training gets."""
    peak, use = device.rate(precision), device.use[precision]
    why = f"{use.typical:.0%} ({use.low:.0%} to {use.high:.0%}) of {peak / 1e12:,.3g} TFLOP/s in {precision}"
    rate = Interval(*(peak * share for share in use))
    if device.name == HOST:
        return Speed(rate, _NONE, f"{why}, measured on a product of matrices")
    return Speed(rate, _LAUNCH, f"{why}, the maker's peak; and 4 to 15 us a kernel at least")


def probed_overhead(found: Sequence[Observed], tensors: Callable[[int], float], assumed: Overhead) -> Overhead:
    """From two steps of different batches.

    What is lost between blocks differs from one run of a process to the next, so the factor that two of them say counts
    half, and what is assumed of the device the other half.

    Args:
        tensors: bytes of tensors by batch.
    """
    few, many = sorted(found)[0], sorted(found)[-1]
    grown = tensors(many.batch) - tensors(few.batch)
    factor = (many.memory - few.memory) / grown if grown > 0 else 1.0
    factor = (min(max(factor, FACTOR[0]), FACTOR[1]) + assumed.factor.value) / 2
    fixed = max(many.memory - factor * tensors(many.batch), 0.0)
    spread = SPREAD[1]
    why = f"probed at batches of {few.batch:,} and {many.batch:,}: {fixed / 1e6:,.0f} MB and {factor:.2f} x tensors"
    return Overhead(_around(fixed, spread), _around(factor, spread), why)


def probed_speed(found: Sequence[Observed], flops: Callable[[int], float]) -> Speed:
    """From the step with the larger batch."""
    many = sorted(found)[-1]
    rate = flops(many.batch) / many.seconds
    why = f"probed at a batch of {many.batch:,}: {many.seconds:.3g} s a step, {rate / 1e9:,.1f} GFLOP/s"
    return Speed(_around(rate, SPREAD[0]), _NONE, why)


def _around(value: float, spread: float) -> Interval:
    return Interval(value * (1 - spread), value, value * (1 + spread))
