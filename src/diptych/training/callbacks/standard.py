"""The callbacks that every training stage has."""

from __future__ import annotations

from diptych.core.config import to_plain
from diptych.core.records.run_folder import RunFolder
from diptych.training.callbacks.base import Callback
from diptych.training.callbacks.console import ProgressBar
from diptych.training.callbacks.metrics_file import MetricsFile
from diptych.training.callbacks.tensorboard import TensorBoard
from diptych.training.callbacks.wandb import Wandb
from diptych.training.run import Run


def standard_callbacks(run: RunFolder, settings: Run) -> list[Callback]:
    """A bar, `metrics.jsonl`, TensorBoard, and Weights & Biases where a project is named.

    Raises:
        MissingExtra: wandb is asked for and not installed.
    """
    callbacks: list[Callback] = [ProgressBar(), MetricsFile(run), TensorBoard(run.events)]
    if settings.wandb:
        callbacks.append(Wandb(settings.wandb, run.path.name, to_plain(settings)))
    return callbacks
