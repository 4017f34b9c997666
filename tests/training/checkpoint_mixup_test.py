"""Checkpoints of another stage, step, model or setting are refused, and nothing of them is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from training_toys import HALF_WAY, WIDTH, LineTask, Points, ToyRun, TwoPhaseTask, refused, same

from diptych.core.config import to_plain
from diptych.core.errors import CheckpointError
from diptych.core.losses import Losses, Part
from diptych.core.records.run_folder import RunFolder
from diptych.core.task import ParamGroup, Task
from diptych.training import checkpoint
from diptych.training.ema import WeightAverage
from diptych.training.fit import fit
from diptych.training.state import TrainingState


@pytest.mark.parametrize("name", ["train-00000005", "other-00000003"])
def test_a_checkpoint_under_another_step_or_stage_is_refused(run: RunFolder, name: str) -> None:
    (run.checkpoints / "train-00000003").rename(run.checkpoints / name)
    if name.startswith("other"):
        settings: ToyRun = Other(save_every=3)
        change_class(run, settings)
        assert "holds another checkpoint, train-00000003" in refused(run, settings)
    else:
        assert "holds another checkpoint, train-00000003: give it back its name" in refused(run)


class Wide(LineTask):
    """A model with a bias of another width."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(WIDTH, 2)

    def losses(self, batch: Points, phase: str = "main") -> Losses:
        return {"size": Part((self.line(batch.x_BD) ** 2).sum(), batch.num_samples)}


class WithGain(LineTask):
    """A model with one more number."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))


class OneFrozen(LineTask):
    """The bias is not trained."""

    def trainable(self) -> dict[str, list[ParamGroup]]:
        return {"main": [ParamGroup({"line.weight": self.line.weight})]}


@dataclass(frozen=True)
class Trains(ToyRun):
    """A run whose task is given."""

    def task(self) -> Task[Any]:
        return TASKS[self.name]()


TASKS: dict[str, Callable[[], Task[Any]]] = {
    "wide": Wide,
    "gain": WithGain,
    "phases": TwoPhaseTask,
    "frozen": OneFrozen,
    "plain": LineTask,
}


@dataclass(frozen=True)
class Other(ToyRun):
    """The same under another stage's name."""

    def stages(self) -> Any:
        (stage,) = super().stages()
        return (replace(stage, name="other"),)


def change_class(run: RunFolder, settings: ToyRun) -> None:
    """Makes the run's saved configuration that of `settings`, as if a checkpoint had been copied into its folder."""
    run.config.write_text(yaml.safe_dump(to_plain(settings)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wide", "is of another model: line.bias differs"),
        ("gain", "is of another model: gain differs"),
        ("phases", "was saved with other phases"),
        ("frozen", "the optimizer of phase 'main' has other parameters"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(run: RunFolder, name: str, said: str) -> None:
    settings = Trains(name=name, save_every=3)
    change_class(run, settings)
    assert said in refused(run, settings)


def test_a_checkpoint_without_the_average_is_refused(run: RunFolder) -> None:
    settings = replace(HALF_WAY, ema_decay=0.9)
    change_class(run, settings)
    assert "with other phases or another weight average" in refused(run, settings)


def test_nothing_is_loaded_from_a_checkpoint_that_fits_only_in_part(run: RunFolder, tmp_path: Path) -> None:
    folder = run.checkpoints / "train-00000003" / checkpoint.TENSORS
    task = OneFrozen()
    optimizers = {"main": HALF_WAY.optimizer.build(task.trainable()["main"])}
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    random = torch.get_rng_state()
    with pytest.raises(CheckpointError, match="other parameters"):
        TrainingState.of(task, optimizers, None).restore(folder)
    assert same(task.state_dict(), before) and torch.equal(torch.get_rng_state(), random)
    averaged = fit(replace(HALF_WAY, ema_decay=0.9), tmp_path / "averaged").checkpoints / "train-00000006"
    whole = LineTask()
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    fitting = {"main": HALF_WAY.optimizer.build(whole.trainable()["main"])}
    average = WeightAverage(whole.line, 0.9)  # names without "line."
    with pytest.raises(CheckpointError, match="the weight average is of other parameters"):
        TrainingState.of(whole, fitting, average).restore(averaged / checkpoint.TENSORS)
    assert same(whole.state_dict(), before) and not fitting["main"].state
