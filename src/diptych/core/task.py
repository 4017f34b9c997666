"""The contract between a model family and the training loop.

A `Task` turns a batch into named losses; the loop knows nothing else about a model. DDP and FSDP2 wrap the task, and
the loop reaches it only through `__call__`, handing in the piece of work to do:

    losses = wrapped(lambda task: task.losses(batch, phase))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.core.losses import Losses
from diptych.core.processor import Processor

T = TypeVar("T")


class Batch(Protocol):
    """What the loop asks of a batch; everything else is between a task and its own frozen Batch dataclass."""

    @property
    def keys(self) -> tuple[str, ...]: ...

    @property
    def num_samples(self) -> int: ...

    def to(self, device: torch.device) -> Self: ...

    def split(self, n: int) -> Sequence[Self]:
        """Micro-batches of at most `n` samples, in order."""
        ...


BatchT = TypeVar("BatchT", bound=Batch)


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share optimizer settings.

    Attributes:
        parameters: name -> parameter.
        decay: whether weight decay applies.
        lr_scale: multiplies the stage's learning rate.
    """

    parameters: Mapping[str, nn.Parameter]
    decay: bool = True
    lr_scale: float = 1.0


class Features(dict[str, Tensor]):
    """Rows that a global-batch loss needs: each tensor's first axis is the sample."""


class Task(nn.Module, ABC, Generic[BatchT]):
    """One training objective around one or more models.

    Attributes:
        phases: names of the passes of a step, each with an optimizer of its own.
        processor: makes its batches.
        divisible: whether a batch may be cut into micro-batches; False where a part that runs before the rows are
            gathered depends on the other samples of its pass (batch norm in a tower).
    """

    phases: tuple[str, ...] = ("main",)
    processor: Processor[BatchT]
    divisible: bool = True

    def forward(self, work: Callable[[Self], T]) -> T:
        """Runs `work` on this task: the one door through which wrappers see every pass."""
        return work(self)

    def trainable(self) -> dict[str, list[ParamGroup]]:
        """Parameter groups of each phase's optimizer; by default everything that requires a gradient."""
        return {"main": decay_groups(self)}

    @abstractmethod
    def losses(self, batch: BatchT, phase: str = "main") -> Losses:
        """The named parts for this batch, taken as the whole global batch."""

    def counts(self, batch: BatchT, phase: str = "main") -> dict[str, float]:
        """The `count` of each MEAN part: what makes accumulation over micro-batches exact.

        Asked for before the first backward pass, and only where a batch is cut and nothing is global. The default runs
        the losses without gradients, which is right for every task; override it where the batch alone tells (the number
        of pictures, of unpadded tokens).
        """
        with torch.no_grad():
            return {name: part.count for name, part in self.losses(batch, phase).items() if part.scope == "mean"}

    def after_step(self) -> None:
        """Called after every optimizer step: averages, momentum encoders, clamps, codebook restarts."""

    @abstractmethod
    def predictor(self) -> Any:
        """The model with its processor, a `capabilities.predictor.Predictor` that shares the weights.

        What checkpoints save and evaluation during training asks.
        """

    def checkpoint_activations(self, on: bool) -> None:
        """Recomputes activations in the backward pass, where the model can."""
        if on:
            raise ConfigError(f"{type(self).__name__} cannot recompute activations: leave checkpointing off")

    def summary(self) -> dict[str, float]:
        """Numbers worth a line in the log at the current weights (a temperature, a code usage)."""
        return {}


@dataclass(frozen=True)
class LocalOutput:
    """One pass of a task with a global-batch term: rows to gather, and the parts that need no other sample."""

    features: Features
    parts: Losses = field(default_factory=dict)


class GlobalTask(Task[BatchT]):
    """A task with a term over the global batch (contrastive).

    The gather over processes and gradient caching over micro-batches are written once, in training, against these
    two methods. Mean-scope parts of the same forward (CoCa's captioning) travel in `LocalOutput.parts`.
    """

    @abstractmethod
    def features(self, batch: BatchT, phase: str = "main") -> LocalOutput:
        """The rows of this batch."""

    @abstractmethod
    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        """The GLOBAL_BATCH parts on the gathered rows.

        Called once a step and phase, on the rows of the whole global batch, the same on every process. So parameters
        that are used here alone (a scale, a projection head) get their gradient here, and a head with batch norm that
        runs here has the statistics of the global batch, however it is cut and spread.
        """

    def losses(self, batch: BatchT, phase: str = "main") -> Losses:
        output = self.features(batch, phase)
        return {**output.parts, **self.losses_from(output.features, phase)}


class AnchoredTask(GlobalTask[BatchT]):
    """A global term that is a sum over anchor rows, each of which may look at all rows (hard in-batch negatives).

    Every process computes the share of its own anchors against the gathered rows, instead of all of it as in
    `losses_from`; training adds the shares up, and the gradients that they ask of every row.

    Attributes:
        gathered: names of the submodules that run on gathered rows, here or in `losses_from`. FSDP2 keeps their weights
            in the unit of the task itself, so that they are whole while the loss is computed; and as a pass through
            them is no exchange between processes, there may be any number of them.
    """

    gathered: tuple[str, ...] = ()

    @abstractmethod
    def anchor_losses(self, features: Features, begin: int, end: int, phase: str = "main") -> Losses:
        """GLOBAL_BATCH parts of the anchors `begin` to `end` of the gathered rows.

        Returns:
            parts whose `sum` adds up over runs of anchors and whose `count` is that of all anchors of the global
            batch. Their names do not depend on the run, which may be empty.
        """

    def losses(self, batch: BatchT, phase: str = "main") -> Losses:
        output = self.features(batch, phase)
        rows = output.features
        of_all = self.losses_from(rows, phase)
        return {**output.parts, **of_all, **self.anchor_losses(rows, 0, batch.num_samples, phase)}


class PairwiseTask(GlobalTask[BatchT]):
    """A global term that is a sum over pairs of a row of one side and a row of the other (the sigmoid losses).

    Nothing is normalised over the batch, so the rows of one side may travel round a ring of processes, each of which
    holds two blocks at a time and never the whole; that ring is written once, in training.

    Attributes:
        travelling: the names of the features of the side that travels; the others stay where they were computed.
    """

    travelling: tuple[str, ...]

    @abstractmethod
    def pair_losses(self, here: Features, there: Features, own: bool, phase: str = "main") -> Losses:
        """GLOBAL_BATCH parts over every pair of a row of `here` and a row of `there`.

        Args:
            here: the features that stay.
            there: the features that travel, of any process.
            own: whether row i of both sides is the same sample; otherwise all pairs are of different samples.

        Returns:
            parts whose `sum` adds up over all blocks of pairs and whose `count` is the number of rows of `here`.
        """

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        there = Features({name: features[name] for name in self.travelling})
        here = Features({name: rows for name, rows in features.items() if name not in there})
        return self.pair_losses(here, there, True, phase)


def decay_groups(module: nn.Module, lr_scale: float = 1.0) -> list[ParamGroup]:
    """Matrices with weight decay; gains, biases and scalars (fewer than two axes) without."""
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    decayed = {name: p for name, p in named.items() if p.ndim >= 2}
    plain = {name: p for name, p in named.items() if p.ndim < 2}
    groups = [
        ParamGroup(decayed, decay=True, lr_scale=lr_scale),
        ParamGroup(plain, decay=False, lr_scale=lr_scale),
    ]
    return [group for group in groups if group.parameters]
