"""The normalisers of a softmax over a batch, in strips: exact, and never the matrix of all pairs.

A strip gives the log-sum-exps of its rows at once and those of the columns little by little. The backward pass makes
each strip again from the embeddings, as it needs the finished normalisers; a batch that is a single strip keeps it. All
strips are written to the same memory: with blocks of their own the C library's heap grows by one for each of them.

N rows, M columns, S rows of a strip, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.objectives.strips import exactly, strips, unrounded


class PairNormalisers(NamedTuple):
    """Of logits whose row i and column i are a pair; in nats.

    Attributes:
        row_N: over all columns.
        column_N: over all rows, of the first N columns.
        matching_N: the logits of the pairs themselves.
    """

    row_N: Tensor
    column_N: Tensor
    matching_N: Tensor


def pair_normalisers(row_ND: Tensor, column_MD: Tensor, scale: Tensor) -> PairNormalisers:
    """Both directions of logits scale * products; columns from N on are candidates for the rows alone."""
    assert len(column_MD) >= len(row_ND), f"{len(row_ND)} rows of pairs meet only {len(column_MD)} columns"
    found = _LogSumExps.apply(*exactly(row_ND, column_MD, scale), True, False)  # type: ignore[no-untyped-call]
    return PairNormalisers(*found)


def row_normalisers(row_ND: Tensor, column_MD: Tensor, scale: Tensor, skip_self: bool = False) -> Tensor:
    """The log-sum-exp [N] of each row of scale * products, in nats.

    Args:
        skip_self: leaves column i out of row i: it is the same vector.
    """
    assert not skip_self or len(column_MD) > 1, "a row that skips itself has no column to look at"
    found = _LogSumExps.apply(*exactly(row_ND, column_MD, scale), False, skip_self)  # type: ignore[no-untyped-call]
    row_N: Tensor = found[0]
    return row_N


class _LogSumExps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, row_ND: Tensor, column_MD: Tensor, scale: Tensor, paired: bool, skip_self: bool
    ) -> tuple[Tensor, ...]:
        rows = len(row_ND)
        of_rows, matching, column_N, room = [], [], None, _Room(row_ND, column_MD, 2)
        for strip in strips(rows, len(column_MD)):
            logits_SM, spare_SM = room.of(strip)
            _logits(logits_SM, row_ND, column_MD, scale, strip, skip_self)
            of_rows.append(_log_sum_exp(logits_SM, 1, spare_SM))
            if paired:
                of_columns_N = _log_sum_exp(logits_SM[:, :rows], 0, spare_SM[:, :rows])
                column_N = of_columns_N if column_N is None else torch.logaddexp(column_N, of_columns_N)
                matching.append(logits_SM.diagonal(strip.start).clone())  # a view would keep the strip
        row_N = torch.cat(of_rows)
        kept_NM = room.blocks[0] if len(of_rows) == 1 else None
        ctx.save_for_backward(row_ND, column_MD, scale, row_N, column_N, kept_NM)
        ctx.skip_self = skip_self
        return (row_N,) if column_N is None else (row_N, column_N, torch.cat(matching))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_normalisers: Tensor) -> tuple[Tensor | None, ...]:
        row_ND, column_MD, scale, row_N, column_N, kept_NM = ctx.saved_tensors
        wants_row, wants_column, wants_scale = ctx.needs_input_grad[:3]
        of_row_ND = torch.empty_like(row_ND) if wants_row or wants_scale else None
        of_column_MD = torch.zeros_like(column_MD) if wants_column else None
        room = _Room(row_ND, column_MD, 2 + (kept_NM is None))
        for strip in strips(len(row_ND), len(column_MD)):
            of_logits_SM, spare_SM, *more = room.of(strip)
            logits_SM = more[0] if kept_NM is None else kept_NM
            if kept_NM is None:
                _logits(logits_SM, row_ND, column_MD, scale, strip, ctx.skip_self)
            _of_logits(of_logits_SM, spare_SM, logits_SM, strip, row_N, column_N, of_normalisers)
            with unrounded(row_ND):
                if of_row_ND is not None:
                    torch.mm(of_logits_SM, column_MD, out=of_row_ND[strip])
                if of_column_MD is not None:
                    of_column_MD.addmm_(of_logits_SM.T, row_ND[strip])
        # So far of the products, not of the logits: the scale is still to come, and its own gradient needs them so.
        of_scale = (of_row_ND * row_ND).sum() if of_row_ND is not None and wants_scale else None
        return (
            of_row_ND.mul_(scale) if of_row_ND is not None and wants_row else None,
            of_column_MD.mul_(scale) if of_column_MD is not None else None,
            of_scale,
            None,
            None,
        )


class _Room:
    """Memory for some blocks of a strip each, used again for every strip."""

    def __init__(self, row_ND: Tensor, column_MD: Tensor, blocks: int) -> None:
        first = next(strips(len(row_ND), len(column_MD)), slice(0, 0))
        self.blocks = [row_ND.new_empty(first.stop, len(column_MD)) for _ in range(blocks)]

    def of(self, strip: slice) -> list[Tensor]:
        return [block[: strip.stop - strip.start] for block in self.blocks]


def _logits(out_SM: Tensor, row_ND: Tensor, column_MD: Tensor, scale: Tensor, strip: slice, skip_self: bool) -> None:
    with unrounded(row_ND):
        torch.mm(scale * row_ND[strip], column_MD.T, out=out_SM)
    if skip_self:
        out_SM.diagonal(strip.start).fill_(-torch.inf)


def _log_sum_exp(logits_SM: Tensor, dim: int, spare_SM: Tensor) -> Tensor:
    largest = logits_SM.amax(dim, keepdim=True)
    return torch.sub(logits_SM, largest, out=spare_SM).exp_().sum(dim).log_().add_(largest.squeeze(dim))


def _of_logits(
    out_SM: Tensor,
    spare_SM: Tensor,
    logits_SM: Tensor,
    strip: slice,
    row_N: Tensor,
    column_N: Tensor | None,
    of_normalisers: tuple[Tensor, ...],
) -> None:
    """The gradient for a strip of logits: softmax of the rows, and of the columns, each times what arrived for it."""
    torch.sub(logits_SM, row_N[strip, None], out=out_SM).exp_().mul_(of_normalisers[0][strip, None])
    if column_N is not None:
        columns = len(column_N)
        of_columns_SN = torch.sub(logits_SM[:, :columns], column_N, out=spare_SM[:, :columns])
        out_SM[:, :columns] += of_columns_SN.exp_().mul_(of_normalisers[1])
        out_SM.diagonal(strip.start).add_(of_normalisers[2][strip])
