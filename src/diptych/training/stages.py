"""A run is an ordered list of stages; what one makes, later ones use.

Stages: `Artifact` (a folder made once: a tokenizer, cached features), `Train`, and `Report` (something to do at the
end, such as reading the test split once). A finished stage is skipped on resumption.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diptych.capabilities.predictor import Predictor
from diptych.core.records.run_folder import RunFolder
from diptych.core.source import Source
from diptych.core.storage import atomic_folder, storage_errors
from diptych.core.task import Task
from diptych.data.words.tokenizer import Tokenizer
from diptych.distributed.watch import Watch
from diptych.distributed.world import World
from diptych.training import checkpoint, state
from diptych.training.run import Run

Evaluate = Callable[[Predictor], dict[str, float]]
"""What recipes pass for evaluation during training: metrics by name, higher is better."""

Show = Callable[[Predictor], list[dict[str, Any]]]
"""What recipes pass to be looked at during training: rows of pictures (evaluation/reporting/picture_rows.py)."""


@dataclass(frozen=True)
class Context:
    """Where a stage runs."""

    run: Run
    folder: RunFolder
    device: torch.device
    world: World
    watch: Watch

    def artifact(self, stage: str) -> Path:
        """The folder that an earlier stage made."""
        folder = self.folder.artifact(stage)
        assert folder.is_dir(), f"no stage named '{stage}' comes before this one"
        return folder

    def trained(self, stage: str) -> dict[str, torch.Tensor]:
        """The state dict of the task that an earlier stage trained, from its newest checkpoint.

        Where the stage kept an average of its weights, the average, which is what was evaluated and saved.
        """
        folder = checkpoint.latest(self.folder, stage)
        assert folder is not None, f"no stage named '{stage}' comes before this one"
        tensors = state.read(folder / checkpoint.TENSORS)
        task, average = (_under(prefix, tensors) for prefix in ("task/", "average/"))
        return task | {name: rows for name, rows in average.items() if name in task}


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): rows for name, rows in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Stage(ABC):
    """One step of a run.

    Attributes:
        name: unique in its run; names its artifacts, checkpoints and log lines.
    """

    name: str

    @abstractmethod
    def done(self, context: Context) -> bool:
        """Whether an earlier session finished it."""

    @abstractmethod
    def run(self, context: Context) -> dict[str, Any]:
        """Does it; returns its costs and counts as plain values."""

    @abstractmethod
    def finish(self, context: Context) -> None:
        """Notes that it is done, once its costs are written."""


@dataclass(frozen=True)
class _Marked(Stage):
    """A stage that is done when a file says so."""

    def done(self, context: Context) -> bool:
        return self._mark(context).is_file()

    def finish(self, context: Context) -> None:
        mark = self._mark(context)
        with storage_errors(mark):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()

    def _mark(self, context: Context) -> Path:
        return context.folder.artifact(self.name) / "done"


@dataclass(frozen=True)
class Artifact(Stage):
    """A folder made once, complete or not at all.

    Attributes:
        make: writes into the folder it is given.
    """

    make: Callable[[Context, Path], None]

    def done(self, context: Context) -> bool:
        return context.folder.artifact(self.name).is_dir()

    def run(self, context: Context) -> dict[str, Any]:
        if context.world.is_main:
            with atomic_folder(context.folder.artifact(self.name)) as part:
                self.make(context, part)
        if context.world.size > 1:
            torch.distributed.barrier()
        return {}

    def finish(self, context: Context) -> None:
        """Its folder says so."""


@dataclass(frozen=True)
class Report(_Marked):
    """Something done once at the end with what was trained; marked as done afterwards."""

    act: Callable[[Context], None]

    def run(self, context: Context) -> dict[str, Any]:
        if context.world.is_main:
            self.act(context)
        return {}


@dataclass(frozen=True)
class Train(_Marked):
    """Training of one task on one source.

    Attributes:
        source: opens the data.
        task: builds the task, from earlier artifacts where it needs them.
        evaluate: measures a predictor now and then; None for no evaluation.
        best: the metric of `evaluate` by which the best checkpoint is kept.
        show: pictures to keep whenever the model is evaluated; None for none.
        settings: optimizer, budget and the rest, when this stage differs from its run.
    """

    source: Callable[[Context], Source]
    task: Callable[[Context], Task[Any]]
    evaluate: Callable[[Context], Evaluate] | None = None
    best: str = ""
    show: Callable[[Context], Show] | None = None
    settings: Run | None = None

    def run(self, context: Context) -> dict[str, Any]:
        from diptych.training.trainer import Trainer  # the trainer knows stages; a stage only calls it

        return Trainer(self, context, self.settings or context.run).run()


def fit_tokenizer(
    texts: Callable[[Context], Iterable[str]], vocab_size: int, name: str = "tokenizer", mask: bool = False
) -> Artifact:
    """The stage that fits a byte-level BPE to captions; with a mask token for models that fill in words."""

    def make(context: Context, folder: Path) -> None:
        Tokenizer.fit(texts(context), vocab_size, mask=mask).write(folder / "tokenizer.json")

    return Artifact(name, make)


def fitted_tokenizer(context: Context, name: str = "tokenizer") -> Tokenizer:
    """The tokenizer of a `fit_tokenizer` stage."""
    return Tokenizer.read(context.artifact(name) / "tokenizer.json")
