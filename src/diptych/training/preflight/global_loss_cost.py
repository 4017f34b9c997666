"""What the loss over the global batch takes, measured on repeated rows: no large batch of pictures is needed.

It is computed for 256 rows, then for four times as many and so on, up to the number asked for or until it takes too
long; larger sizes are extrapolated from the last one and its half. Losses over all pairs go through them in strips of
4 M pairs: from 2,048 rows on their memory is a line, and they compute products a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.core.records.footprint import GlobalCost, Line
from diptych.core.task import Batch, Features, GlobalTask, PairwiseTask
from diptych.training.flops import Counter
from diptych.training.global_loss import loss_gradients
from diptych.training.preflight.tensor_memory import TensorMemory

_FIRST, _TIMES, _SECONDS, _LARGEST = 256, 4, 1.0, 2**28
"""Rows to begin with and how they grow, seconds after which no larger size is tried, the most bytes."""


def global_loss_cost(task: GlobalTask[Any], batch: Batch, rows: int) -> GlobalCost:
    """Of the parts that every process computes on the rows of all; those of own anchors are a step's like others.

    Args:
        batch: whose rows are repeated.
        rows: of the global batch.
    """
    features = _features(task, batch)
    row = sum(some.nbytes // max(len(some), 1) for of_phase in features for some in of_phase.values())
    most = max(min(rows, _LARGEST // max(row, 1)), 2)
    m = min(most, _FIRST)
    high = _measured(task, features, m)
    while m < most and high.seconds < _SECONDS:
        m = min(_TIMES * m, most)
        high = _measured(task, features, m)
    n = max(m // 2, 1)
    low = _measured(task, features, n)
    memory = Line.through((n, low.memory), (m, high.memory))
    return GlobalCost(((n, low.flops), (m, high.flops)), memory, row, isinstance(task, PairwiseTask), m)


def global_loss_memory(task: GlobalTask[Any], batch: Batch, rows: int) -> int:
    """The most bytes that these parts take for so few rows, without the rows."""
    return _measured(task, _features(task, batch), rows).memory


def _features(task: GlobalTask[Any], batch: Batch) -> list[Features]:
    """By phase."""
    with torch.no_grad():
        return [task.features(batch, phase).features for phase in task.phases]


class _Size(NamedTuple):
    """What a number of rows took."""

    flops: int
    memory: int
    seconds: float


def _measured(task: GlobalTask[Any], features: list[Features], rows: int) -> _Size:
    """Of all phases; the memory is that of the phase with the most."""
    flops, most, began = 0, 0, perf_counter()
    for phase, of_phase in zip(task.phases, features, strict=True):
        everyone = _repeated(of_phase, rows)
        with TensorMemory() as memory, Counter() as counter:
            loss_gradients(task, everyone, lambda x, phase=phase: task.losses_from(x, phase), 1.0)  # type: ignore[misc]
        flops, most = flops + counter.flops, max(most, memory.most)
    return _Size(flops, most, perf_counter() - began)


def _repeated(features: Mapping[str, Tensor], rows: int) -> Features:
    """The rows again and again, with noise where they are numbers, so that no two are equal."""
    found = Features()
    for name, some in features.items():
        many = some[torch.arange(rows, device=some.device) % len(some)]
        found[name] = many + 0.1 * torch.randn_like(many) if many.is_floating_point() else many
    return found
