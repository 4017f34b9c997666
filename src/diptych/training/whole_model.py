"""The whole model, to measure and to save, also where FSDP2 shards its weights during training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from diptych.capabilities.predictor import Predictor
from diptych.core.task import Task
from diptych.distributed.sharding import is_sharded
from diptych.distributed.world import current
from diptych.training import parallel
from diptych.training.ema import WeightAverage


class WholeModel:
    """A predictor with the weights of a task, or with their average where there is one.

    Under FSDP2 no process holds all of the weights, so the main process keeps a whole copy of the task, which is filled
    tensor by tensor when it is asked for.

    Args:
        fresh: builds the task once more, for that copy.
    """

    def __init__(self, wrapped: nn.Module, average: WeightAverage | None, fresh: Callable[[], Task[Any]]) -> None:
        self._task, self._average = parallel.unwrap(wrapped), average
        self._sharded = is_sharded(wrapped)
        self._copy = fresh() if self._sharded and current().is_main else None

    @contextmanager
    def predictor(self) -> Iterator[Predictor | None]:
        """The predictor in evaluation mode on the main process, None on others; every process enters."""
        with self._average.in_place() if self._average is not None else nullcontext():
            if self._sharded:
                self._fill_copy()
            holder = self._copy or self._task
            was_training = holder.training
            holder.eval()
            try:
                yield holder.predictor() if current().is_main else None
            finally:
                holder.train(was_training)

    @torch.no_grad()
    def _fill_copy(self) -> None:
        targets = self._copy.state_dict() if self._copy is not None else {}
        for name, tensor in self._task.state_dict().items():
            whole = parallel.whole(tensor)
            if self._copy is not None:
                targets[name].copy_(whole)
