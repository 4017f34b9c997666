"""One exact backward pass over a global batch, however it is cut into micro-batches and spread over processes.

Parts of scope `mean` are divided by the count of the whole global batch, which is known before the first backward
pass: a process with one micro-batch has it from its forward pass, gradient caching from the pass without a graph that
it makes anyway, and several micro-batches without a global term are asked for theirs (`Task.counts`).

A term over the global batch is evaluated once, on constants, for its gradients with respect to the rows
(global_loss.py), which are then carried into the graph that made the rows. With several micro-batches that is gradient
caching (Gao et al. 2021, arXiv 2101.06983): embed everything without a graph, take the loss's gradients, embed again
with a graph and hand each micro-batch its rows. Both give the gradient of the whole batch, not an estimate.

W processes. DDP averages gradients over processes, so what a process holds of a sum is multiplied by W here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.core.losses import Losses, Scope
from diptych.core.seeding import seed_everything
from diptych.core.task import Batch, Features, GlobalTask
from diptych.distributed.gather import sum_over_ranks
from diptych.distributed.world import current
from diptych.training import parallel
from diptych.training.global_loss import GlobalLoss, global_loss

T = TypeVar("T")
Autocast = Callable[[], AbstractContextManager[Any]]


def backward(
    wrapped: nn.Module,
    batches: Sequence[Batch],
    phase: str = "main",
    *,
    autocast: Autocast = nullcontext,
    seed: tuple[str | int, ...] = (),
) -> dict[str, Tensor]:
    """Adds the gradient of the global batch to the parameters' `.grad`.

    Args:
        wrapped: the task, as `parallel.wrap` returns it.
        batches: this process's micro-batches, in order.
        phase: one of the task's phases.
        autocast: makes the context of each forward pass.
        seed: what dropout and the like are drawn from, together with each micro-batch's first key, and alone in the
            loss over the global batch; the two passes of gradient caching draw the same.

    Returns:
        the unweighted mean of each part over the global batch, and "loss", the weighted sum; detached.

    Raises:
        ConfigError: several micro-batches of a task that is not divisible.
    """
    passes = _Passes(wrapped, phase, autocast, seed)
    if len(batches) > 1 and not passes.task.divisible:
        raise ConfigError(
            f"{type(passes.task).__name__} has batch norm in a tower, so its batch cannot be cut into micro-batches: "
            f"set micro_batch to 0, and use more processes where memory is short"
        )
    if not isinstance(passes.task, GlobalTask):
        losses, counts = passes.mean_parts(batches)
    elif len(batches) == 1:
        losses, counts = passes.at_once(batches[0])
    else:
        losses, counts = passes.cached(batches)
    parallel.average_unsharded(wrapped)
    return _summary(losses, counts)


class _Passes:
    """The forward and backward passes of one call of `backward`."""

    def __init__(self, wrapped: nn.Module, phase: str, autocast: Autocast, seed: tuple[str | int, ...]) -> None:
        self.wrapped, self.phase, self.autocast, self.seed = wrapped, phase, autocast, seed
        self.task = parallel.unwrap(wrapped)
        self.processes = current().size

    def call(self, batch: Batch | None, work: Callable[[Any], T]) -> T:
        """A pass through the wrapper, with the draws of the batch."""
        if batch is not None and self.seed:
            seed_everything(*self.seed, batch.keys[0])
        with self.autocast():
            result: T = self.wrapped(work)
        return result

    def _counts(self, batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            return self.call(batch, lambda task: dict(task.counts(batch, self.phase)))

    def _losses(self, batch: Batch) -> Losses:
        return self.call(batch, lambda task: dict(task.losses(batch, self.phase)))

    def _features(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The rows, and the counts of the parts that come with them."""

        def work(task: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
            output = task.features(batch, self.phase)
            return dict(output.features), _counts_of(output.parts)

        return self.call(batch, work)

    def _global_counts(self, found: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """The count of each mean part over all micro-batches and processes; every process asks for it once."""
        local: dict[str, float] = {}
        for counts in found:
            for name, count in counts.items():
                local[name] = local.get(name, 0.0) + count
        if self.processes == 1 or not local:
            return local
        device = next(self.task.parameters()).device
        summed = sum_over_ranks(torch.tensor(list(local.values()), dtype=torch.float64, device=device))
        return dict(zip(local, summed.tolist(), strict=True))

    def mean_parts(self, batches: Sequence[Batch]) -> tuple[Losses, dict[str, float]]:
        """Backward through each micro-batch of a task without a global term; the parts, and their global counts."""
        first = self._losses(batches[0]) if len(batches) == 1 else None
        counts = self._global_counts([_counts_of(first)] if first else [self._counts(batch) for batch in batches])
        seen: Losses = {}
        for index, batch in enumerate(batches):
            with self._no_sync_before(index, len(batches)):
                parts = first or self._losses(batch)
                self._scaled(parts, counts).backward()  # type: ignore[no-untyped-call]
            _add(seen, parts)
        return seen, counts

    def at_once(self, batch: Batch) -> tuple[Losses, dict[str, float]]:
        """Features, the loss over all processes' rows, and its gradients on the graph of these features."""

        def work(task: Any) -> tuple[Tensor, Losses, dict[str, float]]:
            output = task.features(batch, self.phase)
            counts = self._global_counts([_counts_of(output.parts)])
            found = self._global_loss(task, _constant(output.features))
            terms = [*found.into_rows(output.features, 0), *found.into_parameters(task)]
            return self._surrogate(terms, output.parts, counts), {**output.parts, **found.parts}, counts

        surrogate, parts, counts = self.call(batch, work)
        surrogate.backward()  # type: ignore[no-untyped-call]
        return _detached(parts), counts

    def cached(self, batches: Sequence[Batch]) -> tuple[Losses, dict[str, float]]:
        """Gradient caching."""
        rows, counts = self._rows(batches)
        with self._no_sync(), torch.no_grad():
            largest = max(batch.num_samples for batch in batches)  # anchors at once: memory stays that of a micro-batch
            found = self.call(None, lambda task: self._global_loss(task, rows, largest))
        seen: Losses = dict(found.parts)
        begin = 0
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1

            def work(task: Any, batch: Batch = batch, last: bool = last, begin: int = begin) -> tuple[Tensor, Losses]:
                output = task.features(batch, self.phase)
                terms = found.into_rows(output.features, begin) + (found.into_parameters(task) if last else [])
                return self._surrogate(terms, output.parts, counts), output.parts

            with self._no_sync_before(index, len(batches)):
                surrogate, parts = self.call(batch, work)
                surrogate.backward()  # type: ignore[no-untyped-call]
            _add(seen, parts)
            begin += batch.num_samples
        return seen, counts

    def _rows(self, batches: Sequence[Batch]) -> tuple[Features, dict[str, float]]:
        """The rows of all micro-batches of this process, without a graph, and the global counts."""
        with torch.no_grad(), self._no_sync():
            found = [self._features(batch) for batch in batches]
        rows = {name: torch.cat([rows[name] for rows, _ in found]) for name in found[0][0]}
        return Features(rows), self._global_counts([counts for _, counts in found])

    def _global_loss(self, task: Any, rows: Features, anchors: int = 0) -> GlobalLoss:
        """The terms over the global batch; their draws are the same on every process."""
        if self.seed:
            seed_everything(*self.seed, "global batch")
        return global_loss(task, rows, self.phase, anchors)

    def _surrogate(self, terms: list[Tensor], parts: Losses, counts: Mapping[str, float]) -> Tensor:
        """What to call backward on for rows, parameters and the parts of scope `mean`."""
        return torch.stack([*terms, self._scaled(parts, counts)] if parts else terms).sum()

    def _scaled(self, parts: Losses, counts: Mapping[str, float]) -> Tensor:
        """Each part of scope `mean` with its share of the global mean."""
        shares = [part.weight * part.sum * self.processes / max(counts[name], 1.0) for name, part in parts.items()]
        return torch.stack(shares).sum()

    def _no_sync_before(self, index: int, of: int) -> AbstractContextManager[Any]:
        """Only the last micro-batch's backward pass lets DDP exchange gradients."""
        return nullcontext() if index == of - 1 else self._no_sync()

    def _no_sync(self) -> AbstractContextManager[None]:
        return parallel.no_sync(self.wrapped)


def _counts_of(parts: Losses) -> dict[str, float]:
    return {name: part.count for name, part in parts.items() if part.scope == Scope.MEAN}


def _constant(features: Features) -> Features:
    return Features({name: rows.detach() for name, rows in features.items()})


def _detached(parts: Losses) -> Losses:
    return {name: part._replace(sum=part.sum.detach()) for name, part in parts.items()}


def _add(seen: Losses, parts: Losses) -> None:
    for name, part in _detached(parts).items():
        known = seen.get(name)
        seen[name] = part if known is None else part._replace(sum=known.sum + part.sum, count=known.count + part.count)


def _summary(losses: Losses, counts: Mapping[str, float]) -> dict[str, Tensor]:
    """Mean of each part over the global batch, and their weighted sum."""
    found = {}
    for name, part in losses.items():
        if part.scope == Scope.GLOBAL_BATCH:
            found[name] = part.value
        else:
            found[name] = sum_over_ranks(part.sum) / max(counts[name], 1.0)
    weighted = [part.weight * found[name] for name, part in losses.items()]
    return {**found, "loss": torch.stack(weighted).sum()}
