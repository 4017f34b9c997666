"""A sum over all pairs of a row and a column of a yes-or-no loss, in strips: never the matrix of all pairs.

As nothing is normalised over the batch, a strip knows its gradients as soon as it is made: they are taken in the
forward pass, and no product is computed twice.

N rows, M columns, S rows of a strip, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from diptych.objectives.strips import exactly, strips, unrounded

LINEAR_FROM = 40.0
"""softplus(x) is x from here on, in fp64 too; torch's own threshold of 20 is made for fp32."""


def pair_sum(row_ND: Tensor, column_MD: Tensor, scale: Tensor, bias: Tensor, own: bool) -> Tensor:
    """The sum over all pairs of softplus(logit) for a no, softplus(-logit) for a yes, in nats.

    Args:
        own: whether column i belongs to row i (a yes); every other pair is a no.
    """
    assert not own or len(column_MD) >= len(row_ND), f"{len(row_ND)} rows of pairs meet only {len(column_MD)} columns"
    tensors = exactly(row_ND, column_MD, scale, bias)
    found: Tensor = _PairSum.apply(*tensors, own, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return found


@dataclass
class _Sums:
    """What the strips add up to; gradients of the products rather than of the logits, None where nobody asks."""

    loss: Tensor
    of_bias: Tensor
    of_row_ND: Tensor | None
    of_column_MD: Tensor | None

    def gradients(self, row_ND: Tensor, scale: Tensor) -> tuple[Tensor | None, ...]:
        """For rows, columns, scale and bias."""
        of_scale = None if self.of_row_ND is None else (self.of_row_ND * row_ND).sum()
        both = (None if found is None else found.mul_(scale) for found in (self.of_row_ND, self.of_column_MD))
        return (*both, of_scale, self.of_bias)


class _PairSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, row_ND: Tensor, column_MD: Tensor, scale: Tensor, bias: Tensor, own: bool, learning: bool
    ) -> Tensor:
        wants_row, wants_column, wants_scale, wants_bias = (learning and wanted for wanted in ctx.needs_input_grad[:4])
        sums = _Sums(
            row_ND.new_zeros(()),
            row_ND.new_zeros(()),
            torch.empty_like(row_ND) if wants_row or wants_scale else None,
            torch.zeros_like(column_MD) if wants_column else None,
        )
        with unrounded(row_ND):
            for strip in strips(len(row_ND), len(column_MD)):
                logits_SM = torch.addmm(bias, scale * row_ND[strip], column_MD.T)
                sums.loss += F.softplus(logits_SM, threshold=LINEAR_FROM).sum()
                if own:  # softplus(-x) = softplus(x) - x
                    sums.loss -= logits_SM.diagonal(strip.start).sum()
                if wants_row or wants_column or wants_scale or wants_bias:
                    _add_gradients(sums, logits_SM, row_ND, column_MD, strip, own)
        ctx.save_for_backward(*sums.gradients(row_ND, scale))
        return sums.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor | None, ...]:
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        found = (of_loss * gradient if wants else None for gradient, wants in wanted)
        return (*found, None, None)


def _add_gradients(sums: _Sums, logits_SM: Tensor, row_ND: Tensor, column_MD: Tensor, strip: slice, own: bool) -> None:
    """Takes the gradients of one strip; uses its logits up."""
    of_logits_SM = logits_SM.sigmoid_()
    if own:
        of_logits_SM.diagonal(strip.start).sub_(1)
    sums.of_bias += of_logits_SM.sum()
    if sums.of_row_ND is not None:
        torch.mm(of_logits_SM, column_MD, out=sums.of_row_ND[strip])
    if sums.of_column_MD is not None:
        sums.of_column_MD.addmm_(of_logits_SM.T, row_ND[strip])
