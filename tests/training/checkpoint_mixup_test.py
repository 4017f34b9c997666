"""Checkpoints of another stage, step, model or setting are refused, and nothing of them is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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


class OneGroup(LineTask):
    """Gains and matrices are optimised alike."""

    def trainable(self) -> dict[str, list[ParamGroup]]:
        return {"main": [ParamGroup(dict(self.named_parameters()))]}


@dataclass(frozen=True)
class Trains(ToyRun):
    """A run whose task is given."""

    def task(self) -> Task[Any]:
        return TASKS[self.name]()


TASKS: dict[str, Callable[[], Task[Any]]] = {
    "wide": Wide,
    "gain": WithGain,
    "phases": TwoPhaseTask,
    "groups": OneGroup,
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
        ("groups", "the optimizer of phase 'main' has other parameters"),
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


def test_nothing_is_loaded_from_a_checkpoint_that_fits_only_in_part(run: RunFolder) -> None:
    folder = run.checkpoints / "train-00000003"
    _, tensors = checkpoint.load(folder)
    task = OneGroup()
    optimizers = {"main": HALF_WAY.optimizer.build(task.trainable()["main"])}
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    random = torch.get_rng_state()
    with pytest.raises(CheckpointError, match="other parameters"):
        checkpoint.restore(folder, task, optimizers, None, tensors)
    assert same(task.state_dict(), before) and torch.equal(torch.get_rng_state(), random)
    fitting = {"main": HALF_WAY.optimizer.build(LineTask.trainable(task)["main"])}
    average = WeightAverage(task.line, 0.9)  # names without "line."
    kept = WeightAverage(task, 0.9).state_dict()
    with pytest.raises(CheckpointError, match="the weight average is of other parameters"):
        checkpoint.restore(folder, task, fitting, average, {**tensors, "average": kept})
    assert same(task.state_dict(), before) and not fitting["main"].state
