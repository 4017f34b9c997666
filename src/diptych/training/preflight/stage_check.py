"""What `check` measured of a training stage, and the failures and warnings that follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diptych.core.processor import Preview


class ModuleSize(NamedTuple):
    """Parameters of one top-level module."""

    name: str
    total: int
    trainable: int


class TensorRow(NamedTuple):
    """One tensor of a batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    mean: float


@dataclass(frozen=True)
class ModelCheck:
    """The task, before and after one step.

    Attributes:
        modules: sizes by top-level module.
        optimizer_bytes: of the optimizers' state.
        losses: of the first batch, before training: each part, and "loss", their weighted sum.
        gradient_norm: of the first batch, before clipping.
        without_gradient: parameters that an optimizer has and no loss reaches.
        in_no_optimizer: parameters that want a gradient and that no optimizer has.
    """

    modules: Sequence[ModuleSize]
    optimizer_bytes: int
    losses: Mapping[str, float]
    gradient_norm: float
    without_gradient: Sequence[str]
    in_no_optimizer: Sequence[str]


@dataclass(frozen=True)
class DataCheck:
    """The source and the first batch.

    Attributes:
        source: its name.
        samples: in the source.
        shards: tars behind it; 0 where it is none.
        processes, batch_size, share: processes, samples of the global batch, and of it this process's.
        epochs: that the budget means.
        read, bad: samples that were read during the check, and those of them that could not be used, by reason.
        tensors, previews: of the first batch.
    """

    source: str
    samples: int
    shards: int
    processes: int
    batch_size: int
    share: int
    epochs: float
    read: int
    bad: Mapping[str, int]
    tensors: Sequence[TensorRow]
    previews: Sequence[Preview]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each caption, shortest first."""
        return sorted(one.tokens.used for one in self.previews if one.tokens is not None)

    @property
    def padding(self) -> float:
        """The share of padding in the rows of tokens."""
        rows = [one.tokens for one in self.previews if one.tokens is not None]
        return 1 - sum(row.used for row in rows) / max(sum(row.padded for row in rows), 1)

    @property
    def at_the_limit(self) -> int:
        """Captions that fill the context."""
        return sum(one.tokens is not None and one.tokens.used >= one.tokens.limit for one in self.previews)


@dataclass(frozen=True)
class TimeCheck:
    """Seconds, all measured here and now.

    Attributes:
        first: the first step, which warms up.
        step: a later one.
        wait: the share of a later step that waits for data.
        steps: in the budget.
        evaluation, evaluations: one evaluation, and how many there will be.
        saving, savings: one checkpoint, and how many there will be (a new best one is saved besides).
    """

    first: float
    step: float
    wait: float
    steps: int
    evaluation: float
    evaluations: int
    saving: float
    savings: int

    @property
    def total(self) -> float:
        """Of the whole stage."""
        return self.steps * self.step + self.evaluations * self.evaluation + self.savings * self.saving


@dataclass(frozen=True)
class SpaceCheck:
    """Bytes.

    Attributes:
        memory, memory_there: most that was used, and what the device has.
        checkpoint: one of them.
        kept: checkpoints on the disk at once: the last ones, the best, and the one being written.
        left: by earlier stages, in the run's folder.
        free: on the disk of the run's folder.
    """

    memory: int
    memory_there: int
    checkpoint: int
    kept: int
    left: int
    free: int

    @property
    def needed(self) -> int:
        """On the disk."""
        return self.kept * self.checkpoint + self.left


@dataclass(frozen=True)
class StageCheck:
    """One training stage.

    Attributes:
        flops: of the forward and backward passes of a step (flops.py).
        best: the metric that chooses the best checkpoint; "" for none.
        metrics: of the evaluation, which the stage would repeat.
    """

    stage: str
    device: str
    model: ModelCheck
    data: DataCheck
    time: TimeCheck
    space: SpaceCheck
    flops: int
    best: str
    metrics: Mapping[str, float]

    def failures(self) -> Iterator[str]:
        """A sentence for each thing that the run would fail at."""
        space = self.space
        if space.needed > space.free:
            yield (
                f"stage '{self.stage}': {space.kept} checkpoints of {in_bytes(space.checkpoint)} do not fit: "
                f"{in_bytes(space.free)} are free where the run would lie; free some space, lower keep_last or choose "
                f"another folder with --run"
            )

    def warnings(self) -> Iterator[str]:
        """A sentence for each thing that the run would survive and that is worth a thought."""
        yield from self._data_warnings()
        for names, what in (
            (self.model.without_gradient, "get no gradient from any loss"),
            (self.model.in_no_optimizer, "want a gradient but are in no optimizer"),
        ):
            if names:
                yield f"{len(names)} parameters {what}: {_some(names)}"
        if self.time.wait > 0.5:
            yield f"{self.time.wait:.0%} of a step waits for data: raise loader_threads, or store smaller pictures"
        if self.space.memory > 0.85 * self.space.memory_there:
            yield (
                f"the step used {in_bytes(self.space.memory)} of {in_bytes(self.space.memory_there)} of memory: a "
                f"longer caption may not fit; set micro_batch or checkpointing"
            )
        if self.metrics and self.best and self.best not in self.metrics:
            yield f"the best checkpoint is chosen by '{self.best}', which the evaluation does not measure"

    def _data_warnings(self) -> Iterator[str]:
        data = self.data
        if data.samples < data.batch_size:
            yield (
                f"{data.samples:,} samples make no batch of {data.batch_size:,}: a sample meets itself in a batch, as "
                f"its own negative where the loss compares pairs"
            )
        elif data.epochs < 1:
            yield f"the budget is {data.epochs:.2f} epochs: some of the {data.samples:,} samples are never seen"
        if data.lengths and data.at_the_limit > 0.1 * len(data.lengths):
            limit = max(data.lengths)
            yield (
                f"{data.at_the_limit} of {len(data.lengths)} captions fill the context of {limit} tokens: what comes "
                f"after is cut off; raise the longest caption"
            )
        if data.bad:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(data.bad.items()))
            yield f"{sum(data.bad.values())} of {data.read} samples could not be used: {reasons}"


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def in_bytes(count: float) -> str:
    """A number of bytes as people say it: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
