"""A first stage of the contrastive loss alone, for models that have other losses between the same encoders."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.core.errors import ConfigError
from diptych.training.run import Budget, Run


@dataclass(frozen=True)
class Alignment:
    """The contrastive loss alone, at a fraction of the cost of a step with all losses.

    The other losses are learned sooner between encoders that know which words go with which picture.

    Attributes:
        samples: seen in it; 0 for no such stage.
        batch_size: of its global batch; 0 for that of the run.
        lr_scale: multiplies the run's learning rate.
    """

    samples: int = 0
    batch_size: int = 0
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.samples < 0 or self.batch_size < 0 or self.lr_scale <= 0:
            raise ConfigError(
                f"alignment of {self.samples} samples in batches of {self.batch_size} at {self.lr_scale} of the "
                f"learning rate: give 0 or more of both, and a rate above 0"
            )

    def applied_to(self, run: Run) -> Run:
        """The settings of the stage; nothing is selected on it, so it is not measured."""
        return replace(
            run,
            budget=Budget(samples=self.samples),
            batch_size=self.batch_size or run.batch_size,
            optimizer=replace(run.optimizer, lr=run.optimizer.lr * self.lr_scale),
            evaluate_every=0,
        )
