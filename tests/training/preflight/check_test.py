"""`check`: what it says of a few steps is what training does, and what would go wrong is said beforehand."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import torch
from torch import nn
from training_toys import LineTask, PointSource, ToyRun, TwoPhaseTask, points

from diptych.core.errors import ConfigError, DataError, DeviceError, TrainingDiverged
from diptych.core.losses import Losses, Part
from diptych.core.processor import BadSample, Preview, TokenCount
from diptych.core.sample import Sample
from diptych.core.task import ParamGroup, Task
from diptych.training.fit import fit
from diptych.training.preflight import check_trainer
from diptych.training.preflight.check import check
from diptych.training.preflight.check_trainer import module_sizes, tensor_rows
from diptych.training.preflight.machine import held_memory, memory_of, nearest_folder, peak_memory, size_of
from diptych.training.preflight.stage_check import ModuleSize, StageCheck, in_bytes
from diptych.training.run import Budget, Run
from diptych.training.stages import Artifact, Context, Report, Stage, Train


class Untouched(LineTask):
    """With a weight that no loss reaches, one that no optimizer has, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.spare, self.lost = nn.Linear(5, 1, bias=False), nn.Linear(6, 1, bias=False)
        self.frozen = nn.Linear(7, 1, bias=False).requires_grad_(False)

    def trainable(self) -> dict[str, list[ParamGroup]]:
        named = {name: p for name, p in self.named_parameters() if not name.startswith(("lost", "frozen"))}
        return {"main": [ParamGroup(named)]}


class Alternating(LineTask):
    """With a weight that only every second step reaches, as where the batches of a mixture differ in kind."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.ones(()))
        self.reached = False

    def losses(self, batch: Any, phase: str = "main") -> Losses:
        more = {"spare": Part(self.spare * 1.0, 1)} if self.reached else {}
        return {**super().losses(batch, phase), **more}

    def after_step(self) -> None:
        self.reached = not self.reached


class Exploding(LineTask):
    def losses(self, batch: Any, phase: str = "main") -> Losses:
        return {"infinite": Part(self.line(batch.x_BD).sum() * torch.inf, 1)}


class Interrupting(LineTask):
    """A person or a scheduler stops the check in the middle of a step."""

    number = signal.SIGINT

    def after_step(self) -> None:
        os.kill(os.getpid(), self.number)


class Terminating(Interrupting):
    number = signal.SIGTERM


class BadPoints(PointSource):
    """Every seventh is bad, or every second."""

    def __init__(self, every: int) -> None:
        super().__init__(140)
        self.every = every

    def __getitem__(self, index: int) -> Sample:
        if index % self.every == 0:
            raise BadSample(f"point-{index}", "no point")
        return super().__getitem__(index)


def toy(
    kind: type[Task[Any]] = LineTask,
    source: PointSource | None = None,
    metrics: dict[str, float] | None = None,
    **settings: Any,
) -> Run:
    """One stage with a task and a source of the test's."""

    class Toy(ToyRun):
        def stages(self) -> Sequence[Stage]:
            evaluate = None if metrics is None else lambda context: lambda predictor: metrics or {}
            return (Train("train", lambda _: source or PointSource(), lambda _: kind(), evaluate, "score"),)

    return replace(Toy(), **settings)


def checked(run: Run, folder: Path, processes: int = 1) -> StageCheck:
    """The only stage's; nothing is left in the folder."""
    before = sorted(folder.rglob("*"))
    (found,) = check(run, folder / "run", processes=processes)
    assert sorted(folder.rglob("*")) == before
    return found


def test_the_first_step_and_the_checkpoint_are_those_of_training(tmp_path: Path) -> None:
    run = toy(keep_last=2, budget=Budget(steps=6), micro_batch=3, ema_decay=0.9)
    place = fit(run, tmp_path / "trained")
    line = json.loads(place.metrics.read_text().splitlines()[0])
    found = checked(run, tmp_path)
    assert (line["loss"], line["parts"]["squares"], line["grad_norm"]) == pytest.approx(
        (found.model.losses["loss"], found.model.losses["squares"], found.model.gradient_norm), rel=1e-6
    )
    # The step and the counts in state.json may have one digit more or less.
    assert found.space.checkpoint == pytest.approx(size_of(place.saved()[0]), abs=40)
    assert found.space.kept == 3  # two, and the one being written; no best without an evaluation
    assert found.model.optimizer_bytes == 2 * 4 * 4 + 2 * 4  # two moments of four weights, and two counts of steps


def test_parameters_are_counted_by_module_and_those_without_gradient_are_named(tmp_path: Path) -> None:
    found = checked(toy(Untouched), tmp_path)
    assert list(found.model.modules) == [("line", 4, 4), ("spare", 5, 5), ("lost", 6, 6), ("frozen", 7, 0)]
    assert list(found.model.without_gradient) == ["spare.weight"]
    assert list(found.model.in_no_optimizer) == ["lost.weight"]
    said = list(found.warnings())
    assert "1 parameters get no gradient from any loss: spare.weight" in said
    assert "1 parameters want a gradient but are in no optimizer: lost.weight" in said


def test_a_parameter_that_a_later_batch_reaches_is_not_named(tmp_path: Path) -> None:
    assert list(checked(toy(Alternating), tmp_path).model.without_gradient) == []


def test_every_phase_counts_for_gradients(tmp_path: Path) -> None:
    model = checked(toy(TwoPhaseTask), tmp_path).model
    assert model.losses.keys() == {"fit_a", "fit_b", "loss"}
    assert (list(model.without_gradient), list(model.in_no_optimizer)) == ([], [])


def test_modules_are_those_below_what_all_share() -> None:
    inner = nn.Module()
    inner.tower, inner.scale = nn.Linear(2, 3), nn.Parameter(torch.zeros(()))
    task = nn.Module()
    task.model = inner
    assert module_sizes(task) == [ModuleSize("scale", 1, 1), ModuleSize("tower", 9, 9)]
    assert module_sizes(nn.Linear(2, 3)) == [ModuleSize("weight", 6, 6), ModuleSize("bias", 3, 3)]


def test_tensors_of_a_batch_are_described() -> None:
    x, y, count = tensor_rows(points(6))
    assert (x.name, x.shape, x.dtype) == ("x_BD", (6, 3), "float64")
    assert (y.low, y.high, y.mean) == pytest.approx(
        (float(points(6).y_B.min()), float(points(6).y_B.max()), float(points(6).y_B.mean()))
    )
    assert (count.low, count.high, count.mean) == pytest.approx((0, 3, 7 / 6))


def test_epochs_steps_and_how_often_things_are_done(tmp_path: Path) -> None:
    run = toy(metrics={"score": 0.5}, budget=Budget(samples=84), evaluate_every=4, save_every=5)
    found = checked(run, tmp_path)
    assert (found.time.steps, found.time.evaluations, found.time.savings) == (10, 3, 2)
    assert found.data.epochs == pytest.approx(80 / 40)
    assert found.metrics == {"score": 0.5}
    assert found.space.kept == 3
    assert list(found.warnings()) == []
    times = replace(found.time, step=2.0, evaluation=10.0, saving=100.0)
    assert times.total == 10 * 2 + 3 * 10 + 2 * 100


def test_a_process_gets_its_share_of_the_batch(tmp_path: Path) -> None:
    found = checked(toy(batch_size=10, budget=Budget(samples=60)), tmp_path, processes=4)
    assert (found.data.share, found.data.batch_size, found.data.tensors[0].shape) == (3, 10, (3, 3))
    assert (found.time.steps, found.data.epochs) == (6, 1.5)
    with pytest.raises(ConfigError, match="batch_size 10 is smaller than the number of processes, 11"):
        check(toy(batch_size=10), tmp_path / "run", processes=11)


def test_data_that_is_too_little_or_seen_too_seldom_is_warned_of(tmp_path: Path) -> None:
    few = list(checked(toy(source=PointSource(5)), tmp_path).warnings())
    assert few == [
        "5 samples make no batch of 8: a sample meets itself in a batch, as its own negative where the loss compares "
        "pairs"
    ]
    seldom = list(checked(toy(source=PointSource(64)), tmp_path).warnings())
    assert seldom == ["the budget is 0.75 epochs: some of the 64 samples are never seen"]


def test_bad_samples_are_counted_and_too_many_are_named(tmp_path: Path) -> None:
    run = toy(source=BadPoints(7), bad_threshold=0.5, budget=Budget(samples=280))
    found = checked(run, tmp_path)
    bad = found.data.bad["no point"]
    assert found.data.read == 48 + bad and bad > 0
    assert list(found.warnings()) == [f"{bad} of {48 + bad} samples could not be used: no point {bad}"]
    with pytest.raises(DataError, match=r"more than the 5% allowed: no point \d+; for example point-\d+, point-\d+"):
        checked(toy(source=BadPoints(2), batch_size=60), tmp_path)
    assert list(tmp_path.iterdir()) == []


def previews(*used: int, padded: int = 10, limit: int = 10) -> list[Preview]:
    return [Preview(f"k{i}", None, "text", TokenCount(one, padded, limit)) for i, one in enumerate(used)]


def test_captions_at_the_limit_and_padding_are_counted(tmp_path: Path) -> None:
    found = checked(toy(), tmp_path)
    data = replace(found.data, previews=previews(10, 4, 10, 6, 5))
    assert (data.lengths, data.at_the_limit) == ([4, 5, 6, 10, 10], 2)
    assert data.padding == pytest.approx(1 - 35 / 50)
    (said,) = replace(found, data=data).warnings()
    assert said.startswith("2 of 5 captions fill the context of 10 tokens")
    rare = replace(found.data, previews=previews(*[5] * 9, 10))
    assert list(replace(found, data=rare).warnings()) == []


def test_waiting_memory_and_a_metric_that_is_not_measured_are_warned_of(tmp_path: Path) -> None:
    found = checked(toy(metrics={"accuracy": 1.0}), tmp_path)
    assert [w for w in found.warnings() if "'score', which the evaluation does not measure" in w]
    calm = replace(found, best="accuracy")
    time, space = replace(calm.time, wait=0.5), replace(calm.space, memory=85, memory_there=100)
    assert list(replace(calm, time=time, space=space).warnings()) == []
    time, space = replace(calm.time, wait=0.51), replace(calm.space, memory=86, memory_there=100)
    waiting, memory = replace(calm, time=time, space=space).warnings()
    assert waiting.startswith("51% of a step waits for data") and memory.startswith("the step used 86 B of 100 B")


def test_a_slow_source_shows_as_waiting(tmp_path: Path) -> None:
    class Slow(PointSource):
        def __getitem__(self, index: int) -> Sample:
            sleep(0.01)
            return super().__getitem__(index)

    assert checked(toy(source=Slow()), tmp_path).time.wait > 0.5


def test_checkpoints_that_do_not_fit_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(toy(keep_last=4), tmp_path)
    size, kept, extra = found.space.checkpoint, found.space.kept, found.space.left
    assert kept == 5 and found.space.needed == 5 * size + extra
    assert list(found.failures()) == []
    assert not list(replace(found, space=replace(found.space, free=5 * size + extra)).failures())
    # What lies in the throw-away folder is free again afterwards: a checkpoint, and what was there before it.
    monkeypatch.setattr(check_trainer, "free_disk", lambda path: 4 * size + 200)
    assert list(checked(toy(keep_last=4), tmp_path).failures()) == []
    monkeypatch.setattr(check_trainer, "free_disk", lambda path: 4 * size - 200)
    (said,) = checked(toy(keep_last=4), tmp_path).failures()
    assert said.startswith(f"stage 'train': 5 checkpoints of {in_bytes(size)} do not fit")


def test_a_loss_that_is_not_finite_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="step 1: the loss is not finite"):
        check(toy(Exploding), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal; a process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("kind", "stopped"), [(Interrupting, KeyboardInterrupt), (Terminating, SystemExit)])
def test_a_signal_leaves_nothing(kind: type[Task[Any]], stopped: type[BaseException], tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(stopped) as caught:
        check(toy(kind), tmp_path / "run")
    assert kind is Interrupting or caught.value.args == (128 + signal.SIGTERM,)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        check(toy(device="cuda:99"), tmp_path / "run")


def test_a_step_beyond_the_memory_of_a_gpu_is_one_sentence(tmp_path: Path) -> None:
    class Large(LineTask):
        def losses(self, batch: Any, phase: str = "main") -> Losses:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ConfigError, match="a step with batch_size 8 does not fit into the memory of cpu"):
        check(toy(Large), tmp_path / "run")


def staged(seen: list[str]) -> Callable[[], tuple[Stage, ...]]:
    """Something made, a training that needs it, something made of what was trained, a report, another training."""

    def make(context: Context, folder: Path) -> None:
        seen.append("make")
        (folder / "number").write_text("7" * 1000)

    def use(context: Context) -> Task[Any]:
        seen.append(context.artifact("made").joinpath("number").read_text()[:1])
        return LineTask()

    def later(context: Context, folder: Path) -> None:
        seen.append(context.folder.best_model().parent.name.rpartition("-")[0])

    def report(context: Context) -> None:
        seen.append("report")

    def source(context: Context) -> PointSource:
        return PointSource()

    return lambda: (
        Artifact("made", make),
        Train("first", source, use),
        Artifact("taken", later),
        Report("val", report),
        Train("second", source, use, settings=ToyRun(batch_size=4)),
    )


def test_stages_before_a_training_are_run_and_reports_are_not(tmp_path: Path) -> None:
    seen: list[str] = []
    stages = staged(seen)

    class Staged(ToyRun):
        def stages(self) -> Sequence[Stage]:
            return stages()

    told: list[str] = []
    first, second = check(Staged(), tmp_path / "run", tell=told.append)
    assert seen == ["make", "7", "first", "7"]
    assert (first.stage, first.data.batch_size, second.stage, second.data.batch_size) == ("first", 8, "second", 4)
    assert first.space.left >= 1000
    assert "val: left out, it reads the trained model" in told
    assert list(tmp_path.iterdir()) == []


def test_sizes_as_people_say_them() -> None:
    assert [in_bytes(n) for n in (0, 999, 1536, 5 * 2**20, 3.25 * 2**30)] == [
        "0 B",
        "999 B",
        "1.5 KiB",
        "5 MiB",
        "3.2 GiB",
    ]


def test_the_machine_is_measured(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    before = peak_memory(cpu)
    torch.ones(2**26)  # 256 MiB of floats
    assert 2**24 < before <= peak_memory(cpu) < memory_of(cpu)
    assert 2**24 < held_memory(cpu) <= peak_memory(cpu)
    assert torch.cuda.is_initialized() or held_memory(torch.device("cuda")) == 0  # of its own memory, not of ours
    assert nearest_folder(tmp_path / "not" / "there") == tmp_path
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(1234))
    assert size_of(tmp_path) == 1234 and size_of(tmp_path / "none") == 0
