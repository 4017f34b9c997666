"""The terms over the global batch: their gradients for the rows of this process, however many processes there are.

The rows of all processes are gathered and every process computes the whole loss; or, of a loss that is a sum over
anchors (`AnchoredTask`), the share of its own rows; or, for a loss that is a sum over pairs (`PairwiseTask`), the rows
of one side travel round a ring and every process computes its share. Each time the loss is evaluated once a step, on
rows that are constants, and its gradients are handed back: what happens before the rows (micro-batches, wrappers) need
not know which way was taken.

W processes. DDP and FSDP2 average gradients over processes, so what a process contributes to a sum is multiplied by W.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.losses import Losses
from diptych.core.task import AnchoredTask, Features, GlobalTask, PairwiseTask
from diptych.distributed.gather import gather_rows, row_counts, sum_over_ranks
from diptych.distributed.ring import shifted
from diptych.distributed.world import current


@dataclass(frozen=True)
class GlobalLoss:
    """What one evaluation gave, as constants.

    Attributes:
        parts: of the global batch, the same on every process.
        rows: the gradient for each row of this process, times W; names that the loss does not depend on are absent.
        parameters: the gradients of the parameters that the loss itself uses, by their names in the task: to be
            averaged over processes.
    """

    parts: Losses
    rows: dict[str, Tensor]
    parameters: dict[str, Tensor]

    def into_rows(self, features: Features, begin: int) -> list[Tensor]:
        """Scalars whose gradients carry `rows` into these features, which are this process's from row `begin` on."""
        return [
            (rows_BD * self.rows[name][begin : begin + len(rows_BD)]).sum()
            for name, rows_BD in features.items()
            if name in self.rows
        ]

    def into_parameters(self, task: nn.Module) -> list[Tensor]:
        """Scalars whose gradients carry `parameters` into the task's parameters."""
        named = dict(task.named_parameters())
        return [(named[name] * gradient).sum() for name, gradient in self.parameters.items()]


def global_loss(task: GlobalTask[Any], rows: Features, phase: str, anchors: int = 0) -> GlobalLoss:
    """Evaluates the task's terms over the global batch; inside a pass through its wrapper, on every process.

    Args:
        rows: of this process, all its micro-batches; constants.
        anchors: how many anchors of an `AnchoredTask` are computed at once; 0 for all of this process's.
    """
    if isinstance(task, PairwiseTask) and current().size > 1:
        return _round_the_ring(task, rows, phase)
    return _of_all_rows(task, rows, phase, anchors)


def _of_all_rows(task: GlobalTask[Any], rows: Features, phase: str, anchors: int) -> GlobalLoss:
    world = current()
    counts = row_counts(*_size_of(rows))
    everyone = Features({name: gather_rows(rows_BD.detach(), counts) for name, rows_BD in rows.items()})
    begin, end = sum(counts[: world.rank]), sum(counts[: world.rank + 1])
    parts, gradients, parameters = loss_gradients(task, everyone, lambda x: task.losses_from(x, phase), 1.0)
    mine = {name: gradients[name][begin:end] * world.size for name in gradients}
    if isinstance(task, AnchoredTask):
        shares = _of_own_anchors(task, everyone, range(begin, end), phase, anchors)
        parts |= shares.parts
        _add(mine, {name: gradient[begin:end] for name, gradient in shares.rows.items()})
        _add(parameters, shares.parameters)
    return GlobalLoss(parts, mine, parameters)


def _of_own_anchors(task: AnchoredTask[Any], everyone: Features, own: range, phase: str, anchors: int) -> GlobalLoss:
    """The parts of all processes' anchors; `rows` are the gradients for the rows of everyone."""
    size = anchors or max(len(own), 1)
    sums: Losses = {}
    rows: dict[str, Tensor] = {}
    parameters: dict[str, Tensor] = {}
    for begin in range(own.start, max(own.stop, own.start + 1), size):  # once at least: it is where the names are from

        def share(leaves: Features, begin: int = begin) -> Losses:
            return task.anchor_losses(leaves, begin, min(begin + size, own.stop), phase)

        parts, gradients, of_parameters = loss_gradients(task, everyone, share, current().size)
        _add(rows, gradients)
        _add(parameters, of_parameters)
        _add_parts(sums, parts)
    whole = {name: part._replace(sum=sum_over_ranks(part.sum)) for name, part in sums.items()}
    return GlobalLoss(whole, {name: sum_over_ranks(gradient) for name, gradient in rows.items()}, parameters)


def _round_the_ring(task: PairwiseTask[Any], rows: Features, phase: str) -> GlobalLoss:
    """Block by block: the rows that travel carry the gradient that they have met so far along with them."""
    world = current()
    counts = row_counts(*_size_of(rows))
    here = Features({name: x for name, x in rows.items() if name not in task.travelling})
    block = {name: rows[name].detach() for name in task.travelling}
    carried: dict[str, Tensor] = {}
    stayed: dict[str, Tensor] = {}
    parameters: dict[str, Tensor] = {}
    met: Losses = {}
    for hop in range(world.size):

        def pairs(leaves: Features, own: bool = hop == 0) -> Losses:
            there = Features({name: leaves[name] for name in task.travelling})
            return task.pair_losses(Features({name: leaves[name] for name in here}), there, own, phase)

        both = Features({**here, **block})
        share = world.size * counts[world.rank] / sum(counts)
        parts, gradients, of_parameters = loss_gradients(task, both, pairs, share)
        _add(stayed, {name: gradients[name] for name in here if name in gradients})
        _add(carried, {name: gradients[name] for name in block if name in gradients})
        _add(parameters, of_parameters)
        _add_parts(met, parts)
        arriving = counts[(world.rank + hop + 1) % world.size]
        packed = shifted({**block, **{f"{name} gradient": g for name, g in carried.items()}}, arriving)
        block = {name: packed[name] for name in block}
        carried = {name: packed[f"{name} gradient"] for name in carried}
    whole = {name: part._replace(sum=sum_over_ranks(part.sum), count=float(sum(counts))) for name, part in met.items()}
    return GlobalLoss(whole, {**stayed, **carried}, parameters)


def loss_gradients(
    task: GlobalTask[Any], rows: Features, loss: Callable[[Features], Losses], scale: float
) -> tuple[Losses, dict[str, Tensor], dict[str, Tensor]]:
    """Detached parts of `loss`, and the gradients of `scale` times its weighted sum for rows and parameters."""
    leaves = Features({name: rows_ND.detach() for name, rows_ND in rows.items()})
    wanted = [name for name, rows_ND in leaves.items() if rows_ND.is_floating_point()]  # labels travel along
    parameters = {name: p for name, p in task.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        for name in wanted:
            leaves[name].requires_grad_()
        parts = loss(leaves)
        if not parts:
            return {}, {}, {}
        total = torch.stack([part.weight * part.value for part in parts.values()]).sum() * scale
        tensors = [*(leaves[name] for name in wanted), *parameters.values()]
        found = torch.autograd.grad(total, tensors, allow_unused=True)
    by_name = dict(zip(wanted, found[: len(wanted)], strict=True))
    of_parameters = dict(zip(parameters, found[len(wanted) :], strict=True))
    detached = {name: part._replace(sum=part.sum.detach()) for name, part in parts.items()}
    return detached, _present(by_name), _present(of_parameters)


def _present(gradients: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: gradient for name, gradient in gradients.items() if gradient is not None}


def _add(into: dict[str, Tensor], some: dict[str, Tensor]) -> None:
    for name, gradient in some.items():
        into[name] = into[name] + gradient if name in into else gradient


def _add_parts(into: Losses, some: Losses) -> None:
    """Adds up the sums; a count is that of the whole already."""
    for name, part in some.items():
        into[name] = part._replace(sum=into[name].sum + part.sum) if name in into else part


def _size_of(rows: Features) -> tuple[int, torch.device]:
    first = next(iter(rows.values()))
    return len(first), first.device
