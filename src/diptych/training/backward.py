"""One exact backward pass over a global batch, however it is cut into micro-batches and spread over processes.

Parts of scope `mean` are divided by the count of the whole global batch, which is known before the first backward
pass. A term over the global batch goes through gradient caching (Gao et al. 2021, arXiv 2101.06983) when there are
several micro-batches: embed everything without a graph, take the loss's gradient with respect to the embeddings, embed
again with a graph and hand each micro-batch its rows. Both give the gradient of the whole batch, not an estimate.

W processes. DDP averages gradients over processes, so what a process holds of a sum is multiplied by W here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych.core.losses import Losses, Scope
from diptych.core.seeding import seed_everything
from diptych.core.task import Batch, Features, GlobalTask, Task
from diptych.distributed.gather import gather_rows, row_counts, sum_over_ranks
from diptych.distributed.world import current

T = TypeVar("T")
Autocast = Callable[[], AbstractContextManager[Any]]


def unwrap(wrapped: nn.Module) -> Task[Any]:
    """The task inside its wrapper."""
    task = wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped
    assert isinstance(task, Task)
    return task


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
        wrapped: the task, or DDP around it.
        batches: this process's micro-batches, in order.
        phase: one of the task's phases.
        autocast: makes the context of each forward pass.
        seed: what dropout and the like are drawn from, together with each micro-batch's first key, and alone in the
            loss over the global batch; the two passes of gradient caching draw the same.

    Returns:
        the unweighted mean of each part over the global batch, and "loss", the weighted sum; detached.
    """
    passes = _Passes(wrapped, phase, autocast, seed)
    counts = passes.global_counts(batches)
    if not isinstance(passes.task, GlobalTask):
        losses = passes.mean_parts(batches, counts)
    elif len(batches) == 1:
        losses = passes.at_once(batches[0], counts)
    else:
        losses = passes.cached(batches, counts)
    return _summary(losses, counts)


class _Passes:
    """The forward and backward passes of one call of `backward`."""

    def __init__(self, wrapped: nn.Module, phase: str, autocast: Autocast, seed: tuple[str | int, ...]) -> None:
        self.wrapped, self.phase, self.autocast, self.seed = wrapped, phase, autocast, seed
        self.task = unwrap(wrapped)
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

    def _global_losses(self, task: Any, rows: Features) -> Losses:
        """The parts over the global batch; their draws are the same on every process and in both passes."""
        if self.seed:
            seed_everything(*self.seed, "global batch")
        return dict(task.losses_from(rows, self.phase))

    def _features(self, batch: Batch) -> Features:
        return self.call(batch, lambda task: Features(task.features(batch, self.phase).features))

    def global_counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """The count of each mean part over all micro-batches and processes."""
        local: dict[str, float] = {}
        for batch in batches:
            for name, count in self._counts(batch).items():
                local[name] = local.get(name, 0.0) + count
        if self.processes == 1 or not local:
            return local
        device = next(self.task.parameters()).device
        summed = sum_over_ranks(torch.tensor(list(local.values()), dtype=torch.float64, device=device))
        return dict(zip(local, summed.tolist(), strict=True))

    def mean_parts(self, batches: Sequence[Batch], counts: Mapping[str, float]) -> Losses:
        """Backward through each micro-batch of a task without a global term."""
        seen: Losses = {}
        for index, batch in enumerate(batches):
            with self._no_sync_before(index, len(batches)):
                parts = self._losses(batch)
                self._scaled(parts, counts).backward()  # type: ignore[no-untyped-call]
            _add(seen, parts)
        return seen

    def at_once(self, batch: Batch, counts: Mapping[str, float]) -> Losses:
        """Features, gather, loss and backward in one pass."""

        def work(task: Any) -> Losses:
            output = task.features(batch, self.phase)
            gathered = Features({name: gather_rows(rows) for name, rows in output.features.items()})
            return {**output.parts, **self._global_losses(task, gathered)}

        parts = self.call(batch, work)
        self._scaled(parts, counts).backward()  # type: ignore[no-untyped-call]
        return _detached(parts)

    def cached(self, batches: Sequence[Batch], counts: Mapping[str, float]) -> Losses:
        """Gradient caching."""
        sizes = [batch.num_samples for batch in batches]
        everyone = self._everyone(batches)
        gradients = self._feature_gradients(everyone, sum(sizes))
        seen: Losses = {}
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1

            def work(task: Any, batch: Batch = batch, last: bool = last) -> tuple[Features, Losses, Losses]:
                output = task.features(batch, self.phase)
                # The loss's own parameters (scale, bias) get their gradient here, once: the rows are constants.
                own = self._global_losses(task, _constant(everyone)) if last else {}
                return output.features, output.parts, own

            with self._no_sync_before(index, len(batches)):
                features, parts, own = self.call(batch, work)
                begin = sum(sizes[:index])
                surrogate = torch.stack(
                    [(features[name] * rows[begin : begin + sizes[index]]).sum() for name, rows in gradients.items()]
                ).sum()
                for some in (parts, own):
                    surrogate = surrogate + self._scaled(some, counts) if some else surrogate
                surrogate.backward()  # type: ignore[no-untyped-call]
            _add(seen, parts)
            _add(seen, own)
        return seen

    def _everyone(self, batches: Sequence[Batch]) -> Features:
        """The rows of all micro-batches of all processes, without a graph."""
        with torch.no_grad():
            found = [self._features(batch) for batch in batches]
            return Features({name: gather_rows(torch.cat([f[name] for f in found])) for name in found[0]})

    def _feature_gradients(self, everyone: Features, rows: int) -> dict[str, Tensor]:
        """The loss's gradient for this process's rows, times W; rows that it does not depend on have none."""
        leaves = Features({name: rows_ND.detach() for name, rows_ND in everyone.items()})
        wanted = [name for name, rows_ND in leaves.items() if rows_ND.is_floating_point()]  # labels travel along
        for name in wanted:
            leaves[name].requires_grad_()
        with self._no_sync():
            parts = self.call(None, lambda task: self._global_losses(task, leaves))
        total = torch.stack([part.weight * part.value for part in parts.values()]).sum()
        found = torch.autograd.grad(total, [leaves[name] for name in wanted], allow_unused=True)
        begin = sum(row_counts(rows, total.device)[: current().rank])
        mine = slice(begin, begin + rows)
        return {
            name: rows_ND[mine] * self.processes
            for name, rows_ND in zip(wanted, found, strict=True)
            if rows_ND is not None
        }

    def _scaled(self, parts: Losses, counts: Mapping[str, float]) -> Tensor:
        """What to call backward on: each part with its share of the global mean."""
        terms = []
        for name, part in parts.items():
            if part.scope == Scope.GLOBAL_BATCH:
                terms.append(part.weight * part.value)
            else:
                terms.append(part.weight * part.sum * self.processes / max(counts[name], 1.0))
        return torch.stack(terms).sum()

    def _no_sync_before(self, index: int, of: int) -> AbstractContextManager[Any]:
        """Only the last micro-batch's backward pass lets DDP exchange gradients."""
        return nullcontext() if index == of - 1 else self._no_sync()

    def _no_sync(self) -> AbstractContextManager[Any]:
        if isinstance(self.wrapped, DistributedDataParallel):
            context: AbstractContextManager[Any] = self.wrapped.no_sync()
            return context
        return nullcontext()


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
