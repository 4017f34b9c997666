"""Batch norm with the statistics of the whole global batch, however it is spread over processes, on any device.

Ioffe and Szegedy 2015, arXiv 1502.03167. `GatheredBatchNorm` is for rows that were gathered already, where every
process holds all of them; `GatheredBatchNorm2d` is for feature maps of a process's own pictures, whose sums it adds up
over processes. Statistics and normalised values are taken in fp32 at least, also under autocast. The names in the
state dict are those of `torch.nn`.

Running statistics follow the passes that have a gradient: a pass without one (the first of gradient caching) would
count the same batch twice. Nothing here knows of micro-batches: a map's statistics are those of the micro-batch.

N rows, B batch, C channels, H height, W width, D width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from diptych.core.errors import ConfigError
from diptych.distributed.gather import sum_over_ranks
from diptych.distributed.world import current


class GatheredBatchNorm(nn.BatchNorm1d):
    """Of gathered rows [N, D], the same on every process."""

    def forward(self, rows_ND: Tensor) -> Tensor:
        """[N, D], in fp32 at least.

        Raises:
            ConfigError: a single row in training, which has no variance.
        """
        return _with_own_statistics(self, rows_ND)


class GatheredBatchNorm2d(nn.BatchNorm2d):
    """Of a process's own maps [B, C, H, W]; processes may hold different numbers of them."""

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """[B, C, H, W], in fp32 at least.

        Raises:
            ConfigError: a single value a channel in training, which has no variance.
        """
        if not self.training or current().size == 1:
            return _with_own_statistics(self, maps_BCHW)
        with torch.autocast(maps_BCHW.device.type, enabled=False):
            return _with_summed_statistics(self, _exact(maps_BCHW))


def _exact(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _with_own_statistics(norm: _BatchNorm, values: Tensor) -> Tensor:
    """Everything there is to know is in `values`."""
    _check(norm, values.numel() // values.shape[1])
    follows = norm.training and torch.is_grad_enabled()
    known = (norm.running_mean, norm.running_var) if follows or not norm.training else (None, None)
    if follows:
        _count_batch(norm)
    with torch.autocast(values.device.type, enabled=False):
        return F.batch_norm(
            _exact(values), *known, norm.weight, norm.bias, norm.training, norm.momentum or 0.0, norm.eps
        )


def _with_summed_statistics(norm: GatheredBatchNorm2d, maps_BCHW: Tensor) -> Tensor:
    """Two sums over processes: of the values, then of the squares about their mean, which cannot cancel."""
    own = torch.tensor(maps_BCHW.numel() // maps_BCHW.shape[1], device=maps_BCHW.device)
    count = int(sum_over_ranks(own))
    _check(norm, count)
    mean_C = _summed(maps_BCHW.sum((0, 2, 3))) / count
    centred_BCHW = maps_BCHW - mean_C[:, None, None]
    var_C = _summed(centred_BCHW.square().sum((0, 2, 3))) / count
    if torch.is_grad_enabled():
        _follow(norm, mean_C.detach(), var_C.detach() * count / (count - 1))
    gain_C = norm.weight * (var_C + norm.eps).rsqrt()
    return centred_BCHW * gain_C[:, None, None] + norm.bias[:, None, None]


def _check(norm: _BatchNorm, count: int) -> None:
    if norm.training and count < 2:
        raise ConfigError(
            "batch norm cannot train on a batch of one: a single value has no variance; raise batch_size to 2 or more"
        )


@torch.no_grad()
def _follow(norm: _BatchNorm, mean_C: Tensor, var_C: Tensor) -> None:
    """Moves the running statistics towards those of a batch."""
    _count_batch(norm)
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    norm.running_mean.lerp_(mean_C.to(norm.running_mean.dtype), norm.momentum)
    norm.running_var.lerp_(var_C.to(norm.running_var.dtype), norm.momentum)


def _count_batch(norm: _BatchNorm) -> None:
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)


class _Sum(torch.autograd.Function):
    """The sum over processes; what they ask of it adds up too, since each of them uses the same sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    return _Sum.apply(values)  # type: ignore[no-untyped-call,no-any-return]
