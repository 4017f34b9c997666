"""The loop: what stops it, in which order phases go, what it selects and what it logs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_toys import LineTask, Points, ToyRun, TwoPhaseTask, same, weights_in

from diptych.capabilities.folder import read_model
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import TrainingDiverged
from diptych.core.losses import Losses, total
from diptych.core.records.run_folder import RunFolder
from diptych.core.seeding import seed_everything
from diptych.core.task import Task
from diptych.training import checkpoint
from diptych.training.fit import fit
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Evaluate

HELD: list[Any] = []
"""Tasks and scripted values of the test that runs now: a run's fields are plain values."""


@pytest.fixture(autouse=True)
def nothing_held() -> None:
    HELD.clear()


def weights(task: Task[Any]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


@dataclass(frozen=True)
class Held(ToyRun):
    """Trains the task that the test holds."""

    def task(self) -> Task[Any]:
        task: Task[Any] = HELD[0]
        return task


class Breaking(LineTask):
    """Its third step breaks: the loss, or only the gradient."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.done, self.before = what, 0, weights(self)

    def counts(self, batch: Points, phase: str = "main") -> dict[str, float]:
        return {"squares": float(batch.count_B.sum()), "size": float(batch.num_samples)}

    def losses(self, batch: Points, phase: str = "main") -> Losses:
        found = super().losses(batch, phase)
        if self.done < 2:
            return found
        part = found["size"]
        if self.what == "loss":
            return {**found, "size": part._replace(sum=part.sum * math.nan)}
        steep = (self.line.bias.sum() - self.line.bias.sum().detach()).abs().sqrt()  # 0, with an infinite slope
        return {**found, "size": part._replace(sum=part.sum + steep)}

    def after_step(self) -> None:
        self.done, self.before = self.done + 1, weights(self)


@pytest.mark.parametrize(("what", "said"), [("loss", "the loss is not finite"), ("slope", "the gradient is not")])
def test_a_step_that_is_not_finite_stops_with_the_weights_before_it(tmp_path: Path, what: str, said: str) -> None:
    task = Breaking(what)
    HELD.append(task)
    with pytest.raises(TrainingDiverged, match=rf"stage 'train', step 3: {said}.*lower optimizer\.lr") as caught:
        fit(Held(save_every=2, clip_norm=0.0 if what == "slope" else 1.0), tmp_path / "run")
    if what == "loss":
        assert "size nan" in str(caught.value)
    assert task.done == 2
    assert same(weights(task), task.before)
    assert all(bool(tensor.isfinite().all()) for tensor in task.before.values())
    run = RunFolder(tmp_path / "run")
    assert same(weights_in(run.checkpoints / "train-00000002"), task.before)
    assert [line["step"] for line in run.lines()] == [1, 2]


class Drawing(LineTask):
    """Keeps what it draws in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[float, str]] = []

    def counts(self, batch: Points, phase: str = "main") -> dict[str, float]:
        return {"squares": float(batch.count_B.sum()), "size": float(batch.num_samples)}

    def losses(self, batch: Points, phase: str = "main") -> Losses:
        self.drawn.append((float(torch.rand(())), batch.keys[0]))
        return super().losses(batch, phase)


def test_draws_depend_on_seed_stage_step_phase_and_sample_alone(tmp_path: Path) -> None:
    task = Drawing()
    HELD.append(task)
    fit(Held(seed=5, micro_batch=4), tmp_path / "run")
    assert len(task.drawn) == 12 and len({drawn for drawn, _ in task.drawn}) == 12
    for index, (drawn, key) in enumerate(task.drawn):
        seed_everything(5, "train", index // 2, "main", key)
        assert drawn == float(torch.rand(()))


class Recorded(TwoPhaseTask):
    """Keeps the order of what is asked of it, and the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.batches: list[Points] = []

    def counts(self, batch: Points, phase: str = "main") -> dict[str, float]:
        return {f"fit_{phase}": batch.num_samples}

    def losses(self, batch: Points, phase: str = "main") -> Losses:
        self.calls.append(phase)
        if phase == "a":
            self.batches.append(batch)
        return super().losses(batch, phase)

    def after_step(self) -> None:
        self.calls.append("after")


def by_hand(start: dict[str, Tensor], batches: Sequence[Points], settings: ToyRun) -> tuple[Task[Any], list[float]]:
    """Two optimizers that take turns, written out."""
    task, steps = TwoPhaseTask(), len(batches)
    task.load_state_dict(start)
    lr = settings.optimizer.lr
    betas = (settings.optimizer.beta1, settings.optimizer.beta2)
    optimizers = [
        torch.optim.AdamW([p], lr=lr, betas=betas, eps=settings.optimizer.eps, weight_decay=0.0)
        for p in (task.line.weight, task.line.bias)
    ]
    sums = []
    for step, batch in enumerate(batches):
        found = 0.0
        for phase, optimizer in zip("ab", optimizers, strict=True):
            task.zero_grad()
            loss = total(task.losses(batch, phase))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.param_groups[0]["lr"] = lr * settings.schedule.factor(step, steps)
            optimizer.step()
            found += float(loss.detach())
        sums.append(found)
    return task, sums


def test_two_phases_take_turns_each_with_its_optimizer(tmp_path: Path) -> None:
    task = Recorded()
    HELD.append(task)
    start = weights(task)
    settings = Held(optimizer=AdamWConfig(lr=0.05), schedule=WarmupCosine(warmup=2), clip_norm=0.0)
    run = fit(settings, tmp_path / "run")
    assert task.calls == ["a", "b", "after"] * 6
    expected, sums = by_hand(start, task.batches, settings)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(task.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    lines = run.lines()
    assert [line["loss"] for line in lines] == pytest.approx(sums, rel=1e-4)
    for line in lines:
        assert line["loss"] == pytest.approx(line["parts"]["fit_a"] + line["parts"]["fit_b"], rel=1e-6)
    _, stored = checkpoint.load(run.checkpoints / "train-00000006")
    moments = {f"optimizer/{phase}/{name}" for phase, name in (("a", "weight"), ("b", "bias"))}
    assert {name.rpartition("/")[0] for name in stored if name.startswith("optimizer/")} == moments


@dataclass(frozen=True)
class Measured(ToyRun):
    """Measures what the test has scripted."""

    evaluate_every: int = 2
    budget: Budget = field(default_factory=lambda: Budget(steps=10))

    def measure(self) -> Evaluate:
        def score(model: Predictor) -> dict[str, float]:
            assert not model.module.training
            torch.rand(3)  # draws of a measurement are nobody else's
            HELD.append({name: tensor.clone() for name, tensor in model.module.state_dict().items()})
            return {"score": SCRIPT[len(HELD) - 1], "other": -1.0}

        return score


SCRIPT = (0.1, 0.7, 0.3, 0.7, 0.2)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_best_checkpoint_is_named_and_kept_with_the_weights_that_were_measured(
    tmp_path: Path, decay: float
) -> None:
    run = fit(Measured(ema_decay=decay, keep_last=2, save_every=3), tmp_path / "run")
    assert json.loads((run.path / "best.json").read_text()) == {
        "checkpoint": "train-00000004",  # the first of two equals
        "metric": "score",
        "value": 0.7,
    }
    assert {folder.name for folder in run.saved()} == {f"train-{step:08d}" for step in (4, 9, 10)}
    assert run.best_model() == run.checkpoints / "train-00000004" / "model"
    model = read_model(run.best_model())
    assert same(model.module.state_dict(), HELD[1])
    live = weights_in(run.checkpoints / "train-00000004")
    assert same({f"line.{name}": tensor for name, tensor in HELD[1].items()}, live) is (decay == 0.0)
    evaluated = {line["step"]: line["evaluation"]["score"] for line in run.lines() if "evaluation" in line}
    assert evaluated == {2: 0.1, 4: 0.7, 6: 0.3, 8: 0.7, 10: 0.2}


def test_measuring_changes_nothing_of_the_training(tmp_path: Path) -> None:
    measured = fit(Measured(), tmp_path / "measured")
    plain = fit(ToyRun(budget=Budget(steps=10)), tmp_path / "plain")
    states = [checkpoint.load(run.checkpoints / "train-00000010")[1] for run in (measured, plain)]
    assert same(states[0], states[1]) and "random" in states[0]


def test_log_lines_hold_rates_rate_of_learning_and_samples_seen(tmp_path: Path) -> None:
    settings = ToyRun(log_every=4, optimizer=AdamWConfig(lr=0.1), schedule=WarmupCosine(warmup=3))
    run = fit(replace(settings, budget=Budget(samples=80)), tmp_path / "run")
    lines = run.lines()
    assert [(line["step"], line["samples"]) for line in lines] == [(4, 32), (8, 64), (10, 80)]
    factors = [settings.schedule.factor(step - 1, 10) for step in (4, 8, 10)]
    assert [line["lr"] for line in lines] == pytest.approx([0.1 * factor for factor in factors])
    clock = [0.0, *(line["seconds"] for line in lines)]
    for line, before in zip(lines, clock, strict=False):
        assert line["stage"] == "train" and 0 <= line["data_wait"] <= 1 and line["grad_norm"] > 0
        assert line["seconds"] >= before
        assert line["loss"] == pytest.approx(line["parts"]["squares"] + 0.5 * line["parts"]["size"], rel=1e-5)
        elapsed = line["samples"] / line["images_per_second"]
        assert 0 < elapsed < 60
    costs = json.loads((run.path / "costs.json").read_text())
    assert (costs["stages"]["train"]["steps"], costs["stages"]["train"]["samples"], costs["parameters"]) == (10, 80, 4)
    data = json.loads((run.path / "data.json").read_text())["train"]
    assert data["bad"] == {} and data["read"] == 80
