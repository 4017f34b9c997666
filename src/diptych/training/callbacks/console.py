"""A progress bar with rate, remaining time and the share of time spent waiting for data."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from diptych.training.callbacks.base import Quiet, StepLine


class ProgressBar(Quiet):
    """One bar a stage; where the output is no terminal, a line for every tenth of the stage."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self._console,
        )
        self._task: TaskID | None = None
        self._steps = 0
        self._next_line = 0.0

    def start(self, stage: str, step: int, steps: int) -> None:
        self._steps, self._next_line = steps, step
        self._task = self._bar.add_task(stage, total=steps, completed=step, numbers="")
        if self._console.is_terminal:
            self._bar.start()

    def after_step(self, step: int) -> None:
        assert self._task is not None
        self._bar.update(self._task, completed=step)

    def log(self, line: StepLine) -> None:
        assert self._task is not None
        numbers = f"loss {line.loss:.3f}  {line.images_per_second:,.0f} images/s  waiting {line.data_wait:.0%}"
        measured = "  ".join(f"{name} {value:.3f}" for name, value in line.evaluation.items())
        self._bar.update(self._task, numbers=numbers)
        if measured or (not self._console.is_terminal and line.step >= self._next_line):
            self._next_line = line.step + self._steps / 10
            text = f"{line.stage} {line.step}/{self._steps}  {numbers}  {measured}".rstrip()
            self._console.print(text, highlight=False, soft_wrap=True)

    def end(self) -> None:
        if self._console.is_terminal:
            self._bar.stop()
