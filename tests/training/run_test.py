"""Budgets and what no run can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from diptych.core.errors import ConfigError
from diptych.training.run import Budget, Run
from diptych.training.stages import Stage


@dataclass(frozen=True)
class Nothing(Run):
    """A run without stages."""

    def stages(self) -> Sequence[Stage]:
        return ()


@pytest.mark.parametrize(
    ("budget", "batch_size", "steps"),
    [
        (Budget(steps=30), 64, 30),
        (Budget(samples=640), 64, 10),
        (Budget(samples=670), 64, 10),  # to the nearest step
        (Budget(samples=680), 64, 11),
        (Budget(samples=3), 64, 1),  # at least one
    ],
)
def test_a_budget_is_counted_in_steps_or_in_samples(budget: Budget, batch_size: int, steps: int) -> None:
    assert budget.total_steps(batch_size) == steps


@pytest.mark.parametrize("numbers", [(0, 0), (10, 10), (-3, 10), (10, -3), (-1, 0)])
def test_a_budget_that_is_none_or_two_is_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="a number of steps or of samples"):
        Budget(*numbers)


def test_a_run_without_a_batch_or_without_checkpoints_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size 0 and micro_batch 0 make no batch"):
        Nothing(batch_size=0)
    with pytest.raises(ConfigError, match="micro_batch -1"):
        Nothing(micro_batch=-1)
    with pytest.raises(ConfigError, match="clip_norm -1"):
        Nothing(clip_norm=-1)
    with pytest.raises(ConfigError, match=r"ema_decay 1\.0"):
        Nothing(ema_decay=1.0)
    with pytest.raises(ConfigError, match="keep_last must be at least 1"):
        Nothing(keep_last=0)
