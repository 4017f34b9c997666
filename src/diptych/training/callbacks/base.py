"""What a callback sees and when: one concern each, none of them changes the training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class StepLine:
    """One logged step; also a line of `metrics.jsonl`.

    Attributes:
        step: steps done, this one included.
        samples: samples seen by all processes together.
        seconds: of training so far, over all sessions.
        loss: weighted sum of the parts.
        parts: unweighted means over the global batch.
        data_wait: share of the time since the last line that was spent waiting for batches.
        summary: what the task says of itself (a temperature).
        evaluation: metrics measured after this step; {} where none were.
    """

    stage: str
    step: int
    samples: int
    seconds: float
    loss: float
    parts: dict[str, float]
    lr: float
    grad_norm: float
    images_per_second: float
    data_wait: float
    summary: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON values, without what is empty."""
        return {name: value for name, value in vars(self).items() if value != {}}


class Callback(Protocol):
    """Something that watches a stage."""

    def start(self, stage: str, step: int, steps: int) -> None:
        """Called once, with the step that the stage starts or goes on from."""
        ...

    def after_step(self, step: int) -> None:
        """Called after every step."""
        ...

    def log(self, line: StepLine) -> None:
        """Called every `log_every` steps and after evaluations."""
        ...

    def end(self) -> None:
        """Called once, also when training was stopped."""
        ...


class Quiet:
    """A callback that does nothing; the base of those that watch only some of it."""

    def start(self, stage: str, step: int, steps: int) -> None:
        """Nothing."""

    def after_step(self, step: int) -> None:
        """Nothing."""

    def log(self, line: StepLine) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""
