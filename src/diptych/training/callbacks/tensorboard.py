"""TensorBoard events."""

from __future__ import annotations

from pathlib import Path

from diptych.core.storage import storage_errors
from diptych.training.callbacks.base import Quiet, StepLine


class TensorBoard(Quiet):
    """Writes every number of a line under the stage's name."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._make = SummaryWriter
        self._writer: SummaryWriter | None = None

    def start(self, stage: str, step: int, steps: int) -> None:
        # What an earlier session wrote of later steps is hidden, not shown twice.
        with storage_errors(self._folder):
            self._writer = self._make(str(self._folder), purge_step=step + 1)

    def log(self, line: StepLine) -> None:
        assert self._writer is not None
        with storage_errors(self._folder):
            for name, value in numbers(line).items():
                self._writer.add_scalar(f"{line.stage}/{name}", value, line.step)

    def end(self) -> None:
        if self._writer is not None:
            with storage_errors(self._folder):
                self._writer.close()


def numbers(line: StepLine) -> dict[str, float]:
    """The numbers of a line by a flat name."""
    flat = {
        "loss": line.loss,
        "lr": line.lr,
        "grad_norm": line.grad_norm,
        "images_per_second": line.images_per_second,
        "data_wait": line.data_wait,
    }
    for group in ("parts", "summary", "evaluation"):
        flat |= {f"{group}/{name}": value for name, value in getattr(line, group).items()}
    return flat
