"""What a task returns for a batch: named parts that add up exactly over micro-batches and processes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100
"""The label of a position that is not predicted (torch's own default)."""


class Scope(StrEnum):
    """How a part adds up.

    MEAN: sums and counts are added over micro-batches and ranks, then divided.
    GLOBAL_BATCH: the term is defined on the whole global batch at once (contrastive); its `sum` and `count` are
    already those of the global batch, the same on every rank.
    """

    MEAN = "mean"
    GLOBAL_BATCH = "global_batch"


class Part(NamedTuple):
    """One named term: weight * sum / count.

    A NamedTuple, because DDP and FSDP2 look for tensors inside tuples and dicts.
    """

    sum: Tensor
    count: float  # type: ignore[assignment]  # the design's word; tuple.count is not used
    weight: float = 1.0
    scope: Scope = Scope.MEAN

    @property
    def value(self) -> Tensor:
        """The unweighted mean, a scalar."""
        return self.sum / max(self.count, 1.0)


Losses = dict[str, Part]


def total(losses: Mapping[str, Part]) -> Tensor:
    """The weighted sum of the parts: the number to minimise, in one process and one batch."""
    assert losses, "a task returned no losses"
    return torch.stack([part.weight * part.value for part in losses.values()]).sum()
