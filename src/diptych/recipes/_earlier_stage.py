"""A stage that comes before the one a run is about, with a budget of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.core.errors import ConfigError
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run


@dataclass(frozen=True)
class EarlierStage:
    """Steps, batch and learning rate of a part that is trained first and then stays as it is."""

    steps: int = 1000
    batch_size: int = 16
    lr: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.0
    beta2: float = 0.99

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1 or self.lr <= 0:
            raise ConfigError(
                f"an earlier stage of {self.steps} steps of {self.batch_size} samples at a learning rate of {self.lr}: "
                f"give at least 1 step and 1 sample, and a rate above 0"
            )

    def applied_to(self, run: Run) -> Run:
        """The settings of the stage; nothing is selected on it, so it is not measured."""
        return replace(
            run,
            budget=Budget(steps=self.steps),
            batch_size=self.batch_size,
            micro_batch=0,
            ema_decay=0.0,
            optimizer=AdamWConfig(lr=self.lr, weight_decay=self.weight_decay, beta2=self.beta2),
            schedule=WarmupCosine(warmup=min(self.warmup, self.steps)),
            evaluate_every=0,
        )
