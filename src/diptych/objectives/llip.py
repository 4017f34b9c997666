"""Llip's loss: every caption mixes the picture's tokens anew before the two are compared (arXiv 2405.00740, section 3).

The vector of picture i for caption j is

    z_ij = W concat_h( sum_k softmax_k(key_ikh . query_jh / temperature) value_ikh )

and the loss is SigLIP's on scale * cos(z_ij, text_j) + bias. There are N x M vectors z_ij, so they are made a tile at a
time, and the gradients of a tile are taken while it is there: neither N M K nor N M E numbers are ever held.

N pictures, M captions, I and J those of a tile, K mixture tokens, H heads, E width (of all heads), D width of one head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from diptych.objectives.pair_sum import LINEAR_FROM
from diptych.objectives.strips import exactly, unrounded

TILE = 2**21
"""Numbers in the largest tensor of a tile."""


class Mixing(NamedTuple):
    """How a caption mixes a picture's tokens.

    Attributes:
        temperature: divides key . query, in place of the usual square root of the head's width.
        heads: each mixes its own part of the E numbers; they divide E.
    """

    temperature: float
    heads: int


def llip_loss(
    key_NKE: Tensor,
    value_NKE: Tensor,
    query_ME: Tensor,
    text_ME: Tensor,
    out_EE: Tensor,
    scale: Tensor,
    bias: Tensor,
    mixing: Mixing,
    own: bool = True,
) -> Tensor:
    """SigLIP's loss on text-conditioned picture vectors.

    Args:
        key_NKE, value_NKE: of each picture's mixture tokens.
        query_ME, text_ME: of each caption; the texts of unit length. With `own`, the first N belong to the pictures in
            order and further ones to none.
        out_EE: maps the concatenated heads; a row gives one of the E numbers.
        scale, bias: scalars; a logit is scale * cosine + bias.
        own: whether any caption belongs to a picture at all.

    Returns:
        the sum over all N x M pairs divided by N, in nats.
    """
    assert not own or len(text_ME) >= len(key_NKE), f"{len(key_NKE)} pictures meet only {len(text_ME)} captions"
    tensors = exactly(key_NKE, value_NKE, query_ME, text_ME, out_EE, scale, bias)
    found: Tensor = _LlipSum.apply(*tensors, mixing, own, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return found / len(key_NKE)


def llip_cosines(
    key_NKE: Tensor, value_NKE: Tensor, query_ME: Tensor, text_ME: Tensor, out_EE: Tensor, mixing: Mixing
) -> Tensor:
    """cos(z_ij, text_j) [N, M], in tiles; without gradients."""
    key_NKE, value_NKE, query_ME, text_ME, out_EE = exactly(key_NKE, value_NKE, query_ME, text_ME, out_EE)
    cosine_NM = key_NKE.new_empty(len(key_NKE), len(text_ME))
    with torch.no_grad(), unrounded(key_NKE):
        for rows, columns in _tiles(key_NKE, text_ME, mixing):
            cosine_NM[rows, columns] = _cosines(
                key_NKE[rows], value_NKE[rows], query_ME[columns], text_ME[columns], out_EE, mixing
            )
    return cosine_NM


def attention(key_IKE: Tensor, query_JE: Tensor, mixing: Mixing) -> Tensor:
    """The weight [I, J, H, K] of each token of picture i in its vector for caption j; they sum to 1 over K."""
    products_IJHK = torch.einsum("ikhd,jhd->ijhk", _by_head(key_IKE, mixing), _by_head(query_JE, mixing))
    return (products_IJHK / mixing.temperature).softmax(-1)


def _cosines(
    key_IKE: Tensor, value_IKE: Tensor, query_JE: Tensor, text_JE: Tensor, out_EE: Tensor, mixing: Mixing
) -> Tensor:
    weights_IJHK = attention(key_IKE, query_JE, mixing)
    mixed_IJHD = torch.einsum("ijhk,ikhd->ijhd", weights_IJHK, _by_head(value_IKE, mixing))
    z_IJE = F.linear(mixed_IJHD.flatten(2), out_EE)
    return torch.einsum("ije,je->ij", F.normalize(z_IJE, dim=-1), text_JE)


def _by_head(x: Tensor, mixing: Mixing) -> Tensor:
    return x.reshape(*x.shape[:-1], mixing.heads, x.shape[-1] // mixing.heads)


def _tiles(key_NKE: Tensor, text_ME: Tensor, mixing: Mixing) -> Iterator[tuple[slice, slice]]:
    """Blocks of pictures and captions that cover every pair once."""
    rows, columns = len(key_NKE), len(text_ME)
    side = max(math.isqrt(TILE // max(key_NKE.shape[2], key_NKE.shape[1] * mixing.heads)), 1)
    for row in range(0, rows, side):
        for column in range(0, columns, side):
            yield slice(row, min(row + side, rows)), slice(column, min(column + side, columns))


class _LlipSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        tensors, (mixing, own, learning) = inputs[:7], inputs[7:]
        wanted = [learning and needed for needed in ctx.needs_input_grad[:7]]
        gradients = [torch.zeros_like(x) if wants else None for x, wants in zip(tensors, wanted, strict=True)]
        total: Tensor = tensors[0].new_zeros(())
        for rows, columns in _tiles(tensors[0], tensors[3], mixing):
            parts: tuple[Any, ...] = (rows, rows, columns, columns, ..., ..., ...)
            leaves = [x[part].detach().requires_grad_(w) for x, part, w in zip(tensors, parts, wanted, strict=True)]
            with torch.enable_grad(), unrounded(tensors[0]):
                loss = _tile_sum(leaves, mixing, rows.start - columns.start if own else None)
                learned = [leaf for leaf in leaves if leaf.requires_grad]
                found = iter(torch.autograd.grad(loss, learned) if learned else ())
            total += loss.detach()
            for gradient, part in zip(gradients, parts, strict=True):
                if gradient is not None:
                    gradient[part] += next(found)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor | None, ...]:
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        return (*(of_loss * gradient if wants else None for gradient, wants in wanted), None, None, None)


def _tile_sum(leaves: list[Tensor], mixing: Mixing, diagonal: int | None) -> Tensor:
    """The sum over a tile's pairs; `diagonal` says where in it row and column are the same sample."""
    key_IKE, value_IKE, query_JE, text_JE, out_EE, scale, bias = leaves
    logits_IJ = scale * _cosines(key_IKE, value_IKE, query_JE, text_JE, out_EE, mixing) + bias
    loss = F.softplus(logits_IJ, threshold=LINEAR_FROM).sum()
    return loss if diagonal is None else loss - logits_IJ.diagonal(diagonal).sum()
