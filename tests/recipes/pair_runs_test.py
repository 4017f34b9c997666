"""Runs on pairs: their stages, the tuning stage without masking, and bad settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError, Interrupted
from diptych.core.records.run_folder import RunFolder
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.modified_resnet import ResNetConfig
from diptych.models.contrastive import clip
from diptych.models.contrastive._options import Masking
from diptych.models.contrastive._two_towers import TwoTowerTask
from diptych.recipes._image_text import Tuning
from diptych.recipes.clip_tiny import ClipRun, clip_tiny
from diptych.recipes.siglip_tiny import siglip_tiny
from diptych.training import checkpoint
from diptych.training.fit import fit
from diptych.training.run import Budget
from diptych.training.stages import Train


def tiny(**changed: Any) -> ClipRun:
    run = clip_tiny()
    vision = replace(run.model.vision, image_size=32, depth=1)
    return replace(
        run,
        **{
            "data": "scenes?size=32&min_objects=2&count=64",
            "image": replace(run.image, size=32),
            "model": replace(run.model, vision=vision, text=replace(run.model.text, depth=1)),
            "batch_size": 16,
            "budget": Budget(steps=6),
            "evaluate_every": 0,
            "masking": Masking(image=0.5),
            "tuning": Tuning(steps=4, warmup=2),
            **changed,
        },
    )


def weights(run: RunFolder, stage: str) -> dict[str, torch.Tensor]:
    folder = checkpoint.latest(run, stage)
    assert folder is not None
    tensors = checkpoint.load(folder)[1]
    return {name: rows for name, rows in tensors.items() if name.startswith("task/")}


def test_without_tuning_there_is_no_such_stage() -> None:
    assert [stage.name for stage in clip_tiny().stages()] == ["tokenizer", "train"]
    assert [stage.name for stage in tiny().stages()] == ["tokenizer", "train", "tune"]
    assert from_plain(ClipRun, to_plain(tiny())) == tiny()


def test_tuning_has_a_rate_and_budget_of_its_own() -> None:
    run = tiny(tuning=Tuning(steps=4, lr_scale=0.2, warmup=9))
    stage = run.stages()[2]
    assert isinstance(stage, Train) and stage.settings is not None
    settings = stage.settings
    assert (settings.budget, settings.schedule.warmup) == (Budget(steps=4), 4)
    assert settings.optimizer.lr == pytest.approx(0.2 * run.optimizer.lr)
    assert settings.batch_size == run.batch_size


def test_tuning_starts_from_what_training_ended_with_and_masks_nothing(tmp_path: Path) -> None:
    starts: list[tuple[dict[str, torch.Tensor], Masking]] = []
    run = tiny()

    class Seen(type(run)):  # type: ignore[misc]
        def task(self, *given: Any) -> TwoTowerTask:
            task: TwoTowerTask = super().task(*given)
            load = task.load_state_dict

            def noted(state: Any, *rest: Any, **more: Any) -> Any:
                found = load(state, *rest, **more)
                starts.append(({k: v.clone() for k, v in task.state_dict().items()}, task.options.masking))
                return found

            task.load_state_dict = noted  # type: ignore[method-assign]
            return task

    folder = fit(Seen(**{name: getattr(run, name) for name in run.__dataclass_fields__}), tmp_path / "run")
    trained, tuned = weights(folder, "train"), weights(folder, "tune")
    (start, masking), *_ = starts
    assert masking == Masking()
    assert all(torch.equal(start[name.removeprefix("task/")], rows) for name, rows in trained.items())
    assert any(not torch.equal(trained[name], tuned[name]) for name in trained)
    assert folder.best_model().parent.name.startswith("tune")


@pytest.mark.parametrize("stop_at", ["train-3", "tune-2"])
def test_a_run_that_is_stopped_in_either_stage_ends_with_the_same_weights(tmp_path: Path, stop_at: str) -> None:
    run = tiny(save_every=1, negatives=("swap_attribute",), log_every=1)
    whole = fit(run, tmp_path / "whole")
    stage, _, step = stop_at.partition("-")
    stopped = _stopped(run, tmp_path / "stopped", stage, int(step))
    again = fit(run, stopped.path, resume=True)
    expected, found = weights(whole, "tune"), weights(again, "tune")
    assert all(torch.equal(found[name], rows) for name, rows in expected.items())


def _stopped(run: ClipRun, folder: Path, stage: str, step: int) -> RunFolder:
    """The run, left behind by a signal after a step of a stage."""
    from signal import SIGTERM

    from diptych.training import interrupt

    asked: list[str] = []
    agreed = interrupt.Interruption.agreed

    def at_the_step(self: Any, device: torch.device) -> Any:
        asked.append("train" if len(asked) < 6 else "tune")
        return SIGTERM if asked[-1] == stage and asked.count(stage) == step else agreed(self, device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interrupt.Interruption, "agreed", at_the_step)
        with pytest.raises(Interrupted):
            fit(run, folder)
    return RunFolder(folder)


def test_settings_that_cannot_be_are_refused_before_anything_is_made() -> None:
    with pytest.raises(ConfigError, match="did you mean 'swap_relation'"):
        replace(siglip_tiny(), negatives=("swap_relations",))
    with pytest.raises(ConfigError, match="a batch of one has nothing to tell"):
        replace(clip_tiny(), batch_size=1)
    assert replace(clip_tiny(), batch_size=1, negatives=("order",)).batch_size == 1
    assert replace(siglip_tiny(), batch_size=1).batch_size == 1
    for wrong in ({"steps": -1}, {"steps": 3, "lr_scale": 0.0}):
        with pytest.raises(ConfigError, match="tuning of"):
            Tuning(**wrong)


def test_a_resnet_is_a_recipes_vision_tower_and_comes_back_from_plain_values() -> None:
    run = tiny(masking=Masking(), model=replace(clip.Config.tiny(), vision=ResNetConfig(32, 8, (1, 1, 1, 1), 4)))
    assert from_plain(ClipRun, to_plain(run)) == run
    settings = run.stages()
    assert len(settings) == 3
    scenes = Scenes("train", 4, SceneConfig(size=32))
    tokenizer = Tokenizer.fit([scenes[0].texts[0]], 300)
    from diptych.data.batches.image_text import ImageTextConfig, TextPreprocessing
    from diptych.models.contrastive._options import PairOptions

    task = run.task(ImageTextConfig(run.image, TextPreprocessing(64)), tokenizer, PairOptions())
    assert not task.divisible
