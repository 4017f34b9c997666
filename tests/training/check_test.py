"""`check`: what it says of a few steps is what training does, and what would go wrong is said beforehand."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_toys import WIDTH, LineTask, Points, PointSource, ToyRun, TwoPhaseTask

from diptych.core.errors import ConfigError, DataError, TrainingDiverged
from diptych.core.losses import Losses, Part
from diptych.core.processor import BadSample, Preview, TokenCount
from diptych.core.sample import Sample
from diptych.core.task import Task
from diptych.core.visual import Image
from diptych.data.features import KeysOnly
from diptych.data.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.mixture import Mixture
from diptych.data.open import open_source
from diptych.data.pack import pack
from diptych.data.shards import shards_of
from diptych.data.subset import hold_out
from diptych.data.text import Tokenizer
from diptych.distributed.world import World
from diptych.training import probe
from diptych.training.check import check
from diptych.training.checked import StageCheck, in_bytes
from diptych.training.fit import fit
from diptych.training.optimizer import AdamWConfig
from diptych.training.probe import module_sizes, tensor_rows
from diptych.training.run import Budget, Run
from diptych.training.stages import Artifact, Context, Evaluate, Report, Stage, Train


class Untouched(LineTask):
    """With a weight that no loss reaches, one that is frozen, and one that no optimizer has."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(5, 1, bias=False)
        self.frozen = nn.Linear(7, 1, bias=False).requires_grad_(False)


class Exploding(LineTask):
    def losses(self, batch: Points, phase: str = "main") -> Losses:
        return {"infinite": Part(self.line(batch.x_BD).sum() * torch.inf, 1)}


class NeverReady(LineTask):
    def checkpoint_activations(self, on: bool) -> None:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class CheckedRun(ToyRun):
    """On a source and a task of the test's."""

    kind: type[LineTask] = LineTask
    source: Any = field(default_factory=PointSource)
    measured: Evaluate | None = None

    def stages(self) -> Sequence[Stage]:
        measured = self.measured
        evaluate = None if measured is None else lambda context: measured
        return (Train("train", lambda context: self.source, lambda context: self.kind(), evaluate, "score"),)


def checked(run: Run, folder: Path, processes: int = 1) -> StageCheck:
    """The only stage's; nothing is left in the folder."""
    before = sorted(folder.rglob("*"))
    (found,) = check(run, folder / "run", processes=processes)
    assert sorted(folder.rglob("*")) == before
    return found


def test_the_first_step_is_that_of_training(tmp_path: Path) -> None:
    run = fit(CheckedRun(budget=Budget(steps=1)), tmp_path / "run")
    line = run.metrics.read_text()
    model = checked(CheckedRun(budget=Budget(steps=100)), tmp_path / "check").model if False else None
    (tmp_path / "other").mkdir()
    model = checked(CheckedRun(budget=Budget(steps=1)), tmp_path / "other").model
    for number in (model.losses["loss"], model.losses["squares"], model.losses["size"], model.gradient_norm):
        assert f"{number:.6f}"[:7] in line, line
