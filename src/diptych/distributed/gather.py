"""Rows of every process, with exact gradients; identities in a single process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from diptych.distributed.world import current


class _Gather(torch.autograd.Function):
    """All ranks' rows in rank order; the gradient of a row is the sum of what every rank asks of it."""

    @staticmethod
    def forward(ctx: Any, rows_BD: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        longest = max(sizes)
        padded = rows_BD.new_zeros(longest, *rows_BD.shape[1:])
        padded[: rows_BD.shape[0]] = rows_BD
        pieces = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(pieces, padded)
        return torch.cat([piece[:size] for piece, size in zip(pieces, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, None]:
        total = grad_ND.contiguous().clone()
        dist.all_reduce(total)
        begin = sum(ctx.sizes[: dist.get_rank()])
        return total[begin : begin + ctx.sizes[dist.get_rank()]], None


def row_counts(rows: int, device: torch.device) -> list[int]:
    """How many rows each rank holds, in rank order."""
    world = current()
    if world.size == 1:
        return [rows]
    counts = torch.zeros(world.size, dtype=torch.int64, device=device)
    counts[world.rank] = rows
    dist.all_reduce(counts)
    return [int(count) for count in counts.tolist()]


def gather_rows(rows_BD: Tensor, counts: list[int] | None = None) -> Tensor:
    """Concatenates the rows of every process along the first axis; ranks may hold different numbers of rows.

    Args:
        rows_BD: [B, ...], this process's rows.
        counts: of `row_counts`, where the caller has them already; None to ask all processes.

    Returns:
        [sum of B over ranks, ...] in rank order, the same on every rank. Backward adds up the gradients that all
        ranks send to a row: with the same scalar loss computed on W ranks a row receives W times its gradient, which
        the averaging of DDP and FSDP2 divides out again.
    """
    if current().size == 1:
        return rows_BD
    sizes = row_counts(rows_BD.shape[0], rows_BD.device) if counts is None else counts
    return _Gather.apply(rows_BD, sizes)  # type: ignore[no-untyped-call,no-any-return]


def sum_over_ranks(values: Tensor) -> Tensor:
    """The elementwise sum over processes; no gradient."""
    if current().size == 1:
        return values
    summed = values.detach().clone()
    dist.all_reduce(summed)
    return summed
