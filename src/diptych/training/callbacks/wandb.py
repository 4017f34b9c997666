"""Weights & Biases, as an extra."""

from __future__ import annotations

from typing import Any

from diptych.core.errors import MissingExtra
from diptych.training.callbacks.base import Quiet, StepLine
from diptych.training.callbacks.tensorboard import numbers


class Wandb(Quiet):
    """Sends every number of a line to a project."""

    def __init__(self, project: str, name: str, config: dict[str, Any]) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise MissingExtra("wandb", "wandb", "logging to Weights & Biases") from error
        self._run = wandb.init(project=project, name=name, config=config, resume="allow")

    def log(self, line: StepLine) -> None:
        self._run.log({f"{line.stage}/{name}": value for name, value in numbers(line).items()}, step=line.step)

    def end(self) -> None:
        self._run.finish()
