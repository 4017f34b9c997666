"""Numbers as samples and tasks of a few weights, for the tests of training: small enough for closed forms.

B batch, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import CheckpointError
from diptych.core.losses import Losses, Part
from diptych.core.processor import Field, Rows
from diptych.core.records.run_folder import RunFolder
from diptych.core.sample import Sample
from diptych.core.seeding import Draw, hash_to_int
from diptych.core.task import ParamGroup, Task
from diptych.training import checkpoint
from diptych.training.fit import fit
from diptych.training.run import Budget, Run
from diptych.training.stages import Evaluate, Stage, Train

WIDTH = 3


@dataclass(frozen=True)
class Points:
    """Points with a target and a number of observations each."""

    keys: tuple[str, ...]
    x_BD: Tensor
    y_B: Tensor
    count_B: Tensor

    @property
    def num_samples(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Self:
        return replace(self, x_BD=self.x_BD.to(device), y_B=self.y_B.to(device), count_B=self.count_B.to(device))

    def split(self, n: int) -> Sequence[Self]:
        return [
            replace(
                self,
                keys=self.keys[i : i + n],
                x_BD=self.x_BD[i : i + n],
                y_B=self.y_B[i : i + n],
                count_B=self.count_B[i : i + n],
            )
            for i in range(0, self.num_samples, n)
        ]


def points(count: int = 7, dtype: torch.dtype = torch.float64) -> Points:
    """Points whose numbers of observations differ: 0, 1, 2, 3, 0, ..."""
    rng = np.random.default_rng(3)
    return Points(
        tuple(f"point-{i}" for i in range(count)),
        torch.tensor(rng.normal(size=(count, WIDTH)), dtype=dtype),
        torch.tensor(rng.normal(size=count), dtype=dtype),
        torch.tensor([i % 4 for i in range(count)], dtype=dtype),
    )


class PointSource:
    """Points drawn by position; y is linear in x."""

    name = "points"

    def __init__(self, count: int = 40) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(hash_to_int("point", index))
        x = rng.normal(size=WIDTH)
        return Sample(f"point-{index}", meta={"x": x.tolist(), "y": float(x @ [1.0, -2.0, 0.5]), "count": index % 4})

    def keys(self) -> Sequence[str]:
        return [f"point-{i}" for i in range(self.count)]

    def fingerprint(self) -> str:
        return f"points-{self.count}"


class PointProcessor:
    """Copies a point's numbers into its row."""

    def layout(self) -> Mapping[str, Field]:
        return {"x": Field((WIDTH,), "float32"), "y": Field((1,), "float32"), "count": Field((1,), "float32")}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> None:
        for name in ("x", "y", "count"):
            rows[name][...] = sample.meta[name]

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[Any]) -> Points:
        return Points(keys, arrays["x"].clone(), arrays["y"][:, 0].clone(), arrays["count"][:, 0].clone())


class LinePredictor(Predictor):
    """Holds a linear map; answers nothing."""

    VERBS = ()
    name = "line"

    def __init__(self, module: nn.Module | None = None) -> None:
        self.module = nn.Linear(WIDTH, 1) if module is None else module

    def describe(self) -> dict[str, Any]:
        return {"width": WIDTH}

    def save_files(self, folder: Path) -> None:
        (folder / "words.txt").write_text("none", encoding="utf-8")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        return cls()


class LineTask(Task[Points]):
    """Weighted least squares, and a second term over samples instead of observations.

    squares: sum over observations of (w x + b - y)^2. size: sum over samples of (w x + b)^2, at weight 0.5.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processor = PointProcessor()
        self.line = nn.Linear(WIDTH, 1)

    def losses(self, batch: Points, phase: str = "main") -> Losses:
        found_B = self.line(batch.x_BD).squeeze(1)
        squares = (batch.count_B * (found_B - batch.y_B) ** 2).sum()
        return {
            "squares": Part(squares, float(batch.count_B.sum())),
            "size": Part((found_B**2).sum(), batch.num_samples, weight=0.5),
        }

    def predictor(self) -> LinePredictor:
        return LinePredictor(self.line)


class TwoPhaseTask(LineTask):
    """Phase "a" fits the weight to the targets, phase "b" the bias to what phase "a" has just left."""

    phases = ("a", "b")

    def trainable(self) -> dict[str, list[ParamGroup]]:
        return {
            phase: [ParamGroup({name: p for name, p in self.line.named_parameters() if name == trained}, decay=False)]
            for phase, trained in (("a", "weight"), ("b", "bias"))
        }

    def losses(self, batch: Points, phase: str = "main") -> Losses:
        found_B = self.line(batch.x_BD).squeeze(1)
        return {f"fit_{phase}": Part(((found_B - batch.y_B) ** 2).sum(), batch.num_samples)}


def weights_in(folder: Path) -> dict[str, Tensor]:
    """The task's weights in a checkpoint, whole."""
    tensors = checkpoint.load(folder)[1]
    return {name.removeprefix("task/"): tensor for name, tensor in tensors.items() if name.startswith("task/")}


def gradients(task: nn.Module) -> dict[str, Tensor]:
    """Copies of the gradients by name."""
    return {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-11) -> None:
    """The same names with the same numbers, and at least one."""
    assert found.keys() == expected.keys() and expected
    for name, tensor in expected.items():
        error = float((found[name] - tensor).abs().max())
        assert error <= rtol * (1 + float(tensor.abs().max())), f"{name} differs by {error}"


@dataclass(frozen=True)
class ToyRun(Run):
    """One stage on points; a test overrides what it is about."""

    threads: int = 1
    loader_threads: int = 1
    batch_size: int = 8
    budget: Budget = field(default_factory=lambda: Budget(steps=6))
    log_every: int = 1

    def task(self) -> Task[Any]:
        """What is trained."""
        return LineTask()

    def measure(self) -> Evaluate | None:
        """How it is evaluated during training."""
        return None

    def stages(self) -> Sequence[Stage]:
        measure = self.measure()
        return (
            Train(
                "train",
                source=lambda context: PointSource(),
                task=lambda context: self.task(),
                evaluate=None if measure is None else lambda context: measure,
                best="score",
            ),
        )


HALF_WAY = ToyRun(save_every=3)
"""What the fixture `run` was killed in the middle of."""


def refused(run: RunFolder, settings: ToyRun = HALF_WAY) -> str:
    """The sentence with which resuming is refused; nothing was written or trained."""
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError) as caught:
        fit(settings, run.path, resume=True)
    environment = run.environment
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert before.keys() == after.keys()
    assert [path for path in before if before[path] != after[path] and path != environment] == []
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
