"""A stage's footprint from a few samples: what it says of larger batches is what these take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_toys import LineTask, PointSource, ToyRun, TwoPhaseTask

from diptych.core.errors import ConfigError
from diptych.core.records.footprint import Footprint, Line
from diptych.core.task import Features, Task
from diptych.data.loading.loader import Loader, evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.guide.memory import memory_of
from diptych.models.contrastive import clip, llip
from diptych.models.masked import maskvlm
from diptych.training.backward import backward
from diptych.training.flops import Counter, step_flops
from diptych.training.preflight.footprints import footprints
from diptych.training.preflight.global_loss_cost import global_loss_cost
from diptych.training.preflight.tensor_memory import TensorMemory
from diptych.training.run import Run
from diptych.training.stages import Train

SCENES = Scenes("train", config=SceneConfig(objects=1, size=32), count=96)


def footprint(run: Run, tmp_path: Path, processes: int = 1) -> Footprint:
    (found,) = footprints(run, tmp_path / "run", processes=processes)
    assert list(tmp_path.iterdir()) == []
    return found


def on_scenes(model: Any, task: str, **settings: Any) -> Run:
    """A run of one of a model's tiny tasks on scenes."""

    class OnScenes(ToyRun):
        def task(self) -> Task[Any]:
            found: Task[Any] = model.tiny_tasks([SCENES[index] for index in range(8)])[task]
            return found

        def stages(self) -> tuple[Train]:
            return (Train("train", lambda _: SCENES, lambda _: self.task()),)

    return replace(OnScenes(), batch_size=64, **settings)


def test_parameters_and_what_belongs_to_them(tmp_path: Path) -> None:
    class Half(ToyRun):
        def task(self) -> Task[Any]:
            task = LineTask()
            task.line.bias.requires_grad_(False)
            return task

    found = footprint(Half(ema_decay=0.9), tmp_path)
    assert (found.parameters, found.trained) == (4, 3)
    assert (found.weights, found.gradients, found.average) == (16, 12, 12)
    assert found.optimizer == 2 * 12 + 4  # two moments, and a count of steps
    assert (found.batch.each, found.buffers, found.steps, found.loss) == (5 * 4, 4, 6, None)
    assert found.checkpoint == 16 + found.optimizer + found.average + 8 + torch.get_rng_state().nbytes + 16


@pytest.mark.parametrize(("model", "task"), [(clip, "contrastive"), (llip, "contrastive"), (maskvlm, "masked")])
def test_a_larger_batch_takes_what_its_lines_say(
    model: Any, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followed at 8 and 32 samples, said of 64; texts are as long as they are, which is what the rest is."""
    monkeypatch.setattr("diptych.training.preflight.footprint_trainer._MOST", 32)
    run = on_scenes(model, task)
    found = footprint(run, tmp_path)
    (stage,) = run.stages()
    trained: Task[Any] = stage.task(None).train()  # type: ignore[arg-type]
    with Loader[Any](SCENES, trained.processor, 64, run.seed, threads=1) as loader:
        batch = next(loader)
    wanted = [p for p in trained.parameters() if p.requires_grad]
    with TensorMemory(wanted) as memory:
        backward(trained, [batch], seed=(0,))
    planned = memory_of(found, "one", 64, 1, 0, 0).together - found.weights - found.optimizer
    assert planned == pytest.approx(memory.most, rel=0.08)
    assert found.step_flops(64) == pytest.approx(step_flops(trained, [batch]), rel=0.08)


def test_micro_batches_take_less_memory_and_a_second_pass(tmp_path: Path) -> None:
    whole = footprint(replace(on_scenes(clip, "contrastive"), batch_size=16), tmp_path)
    cut = footprint(on_scenes(clip, "contrastive", micro_batch=16), tmp_path)
    assert cut.flops.each / whole.flops.each == pytest.approx(4 / 3, rel=0.05)  # a pass forward more
    assert (cut.passes(96), whole.passes(96), cut.passes(96, 6)) == (6, 1, 1)
    gradients = [moment.gradients for moment in cut.moments]
    assert gradients[-1] == whole.gradients and len(gradients) > len(whole.moments)


def test_phases_and_stages_are_followed(tmp_path: Path) -> None:
    class TwoPhases(ToyRun):
        def task(self) -> Task[Any]:
            return TwoPhaseTask()

        def stages(self) -> tuple[Train, ...]:
            first = Train("first", lambda _: PointSource(), lambda _: self.task(), settings=ToyRun(batch_size=4))
            return (first, Train("second", lambda context: PointSource(), self.after))

        def after(self, context: Any) -> Task[Any]:
            task = self.task()
            task.load_state_dict(context.trained("first"))
            return task

    first, second = footprints(TwoPhases(), tmp_path / "run")
    assert (first.stage, first.batch_size, second.stage, second.batch_size) == ("first", 4, "second", 8)
    assert second.gradients == 16 and list(tmp_path.iterdir()) == []


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a batch of 8 is not divisible by 3 devices: take 6 or 9, or other --gpus"):
        footprint(ToyRun(), tmp_path, processes=3)


def rows(count: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image_ND, text_ND = (torch.randn(count, width, generator=generator, requires_grad=True) for _ in range(2))
    return image_ND, text_ND


def test_the_loss_over_a_batch_that_was_not_tried_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    task = clip.tiny_tasks([SCENES[index] for index in range(8)])["contrastive"]
    batch = next(iter(evaluation_batches(SCENES, task.processor, 8)))
    row = 2 * 4 * task.config.width
    monkeypatch.setattr("diptych.training.preflight.global_loss_cost._SECONDS", 60.0)
    monkeypatch.setattr("diptych.training.preflight.global_loss_cost._LARGEST", 4096 * row)
    cost = global_loss_cost(task, batch, 5000)
    assert (cost.largest, cost.row, cost.ring) == (4096, row, False)
    image_ND, text_ND = rows(5000, task.config.width)
    with Counter() as counter, TensorMemory() as memory:
        part = task.losses_from(Features(image=image_ND, text=text_ND))["contrastive"]
        part.value.backward()  # type: ignore[no-untyped-call]
    assert cost.flops_at(5000) == pytest.approx(counter.flops, rel=0.01)
    assert cost.memory.at(5000) == pytest.approx(memory.most, rel=0.1)


def test_a_line_never_begins_below_zero() -> None:
    assert Line.through((2, 10.0), (4, 14.0)) == Line(6.0, 2.0)
    assert Line.through((2, 1.0), (4, 4.0)) == Line(0.0, 1.0)
    assert Line.through((4, 8.0), (4, 8.0)) == Line(0.0, 2.0)
