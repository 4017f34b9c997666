"""What a training stage takes, as functions of its batch: measured by training, read by the guide.

Bytes and floating point operations; x samples put through the model at once, N rows of the global batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """fixed + each * x."""

    fixed: float
    each: float

    def at(self, x: float) -> float:
        return self.fixed + self.each * x

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> Line:
        """Through two points (x, y); through zero where they are one, or where it would begin below zero."""
        (x, y), (further, higher) = first, second
        each = (higher - y) / (further - x) if further > x else 0.0
        fixed = y - each * x
        return cls(fixed, each) if each > 0 and fixed >= 0 else cls(0.0, higher / further)


@dataclass(frozen=True)
class Moment:
    """While so many bytes of gradients are there: the most of everything else that the step makes."""

    gradients: int
    others: Line


@dataclass(frozen=True)
class GlobalCost:
    """Of the loss over the global batch, with its gradients, in one process that holds all rows.

    Attributes:
        flops: (N, operations) at two sizes: rows and pairs of rows are fitted to them.
        memory: by N, without the rows themselves.
        row: bytes of one, which each process holds of all where there are several, or several micro-batches.
        ring: whether it is a sum over pairs whose work the processes share; otherwise each does all of it.
        largest: the most rows that were tried; beyond them it is extrapolated.
    """

    flops: tuple[tuple[int, int], tuple[int, int]]
    memory: Line
    row: int
    ring: bool
    largest: int

    def flops_at(self, rows: int) -> float:
        """a * N + b * N^2; b alone where larger batches, which are cut into strips, compute more for a pair."""
        (n, low), (m, high) = self.flops
        pairs = (high / m - low / n) / (m - n) if m > n else 0.0
        alone = low / n - pairs * n
        return rows * alone + pairs * rows**2 if alone >= 0 else high * (rows / m) ** 2


@dataclass(frozen=True)
class Footprint:
    """One training stage.

    Attributes:
        parameters, trained: numbers of them.
        batch_size, micro_batch, steps: as its settings have them; a micro_batch of 0 puts all of a share through.
        precision: "fp32" or "bf16", that the passes were followed in.
        weights: bytes of parameters and buffers.
        gradients: bytes, once all are there.
        optimizer, average: bytes of its state, and of the running average of the weights.
        unit, rest: bytes of the largest block that FSDP2 shards alone, and of what stands in none.
        moments: of a step, without the loss over the global batch.
        batch: bytes of the tensors of a batch.
        buffers: batches that lie in memory at once.
        flops: of the passes of a step, without the loss over the global batch.
        operations: kernels of a pass, however small they are.
        loss: over the global batch; None where no part needs other samples.
        divisible: whether a batch may be cut into micro-batches.
        checkpoint: bytes of one on the disk; kept: how many lie there at once.
        source, samples: what the data is called, and how many it has.
        packed: bytes of a sample in a tar, by format of its picture; none where samples have no picture.
    """

    stage: str
    parameters: int
    trained: int
    batch_size: int
    micro_batch: int
    steps: int
    precision: str
    weights: int
    gradients: int
    optimizer: int
    average: int
    unit: int
    rest: int
    moments: Sequence[Moment]
    batch: Line
    buffers: int
    flops: Line
    operations: int
    loss: GlobalCost | None
    divisible: bool
    checkpoint: int
    kept: int
    source: str
    samples: int
    packed: Mapping[str, float]

    def step_flops(self, batch: int, processes: int = 1) -> float:
        """Of all processes together, for a global batch."""
        of_loss = 0.0
        if self.loss is not None:
            of_loss = self.loss.flops_at(batch) * (1 if self.loss.ring else processes)
        return processes * self.flops.at(batch / processes) + of_loss

    def passes(self, batch: int, processes: int = 1) -> int:
        """Of a process in a step."""
        share = -(-batch // processes)
        return -(-share // self.micro_batch) if 0 < self.micro_batch < share else 1
