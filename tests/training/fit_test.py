"""`fit`: what may change between two sessions of a run, and what is refused before anything is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_toys import HALF_WAY, PointSource, ToyRun, same, weights_in

from diptych.capabilities.load import check_device
from diptych.core.errors import ConfigError, DataError, DeviceError, MissingExtra
from diptych.core.records.environment import environment
from diptych.core.records.run_folder import RunFolder
from diptych.training.fit import fit
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Artifact, Context, Report, Stage, Train


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = weights_in(run.checkpoints / "train-00000006")
    return tensors


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"batch_size": 16},
        {"budget": Budget(steps=7)},
        {"optimizer": AdamWConfig(lr=1.0)},
        {"schedule": WarmupCosine(warmup=1)},
        {"clip_norm": 2.0},
        {"ema_decay": 0.5},
        {"precision": "bf16"},
        {"name": "other"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_field_that_would_change_the_result_is_refused_by_name(run: RunFolder, changes: dict[str, Any]) -> None:
    before = run.config.read_bytes()
    with pytest.raises(ConfigError, match=f"cannot resume .* with another '{next(iter(changes))}'"):
        fit(replace(HALF_WAY, **changes), run.path, resume=True)
    assert run.config.read_bytes() == before
    assert [folder.name for folder in run.saved()] == ["train-00000003"]


def test_the_device_that_was_computed_on_is_on_record(run: RunFolder) -> None:
    assert HALF_WAY.device == "auto"
    assert yaml.safe_load(run.config.read_text())["device"] == str(check_device("auto"))


def test_fields_that_only_say_how_may_change_and_the_result_does_not(finished: RunFolder, run: RunFolder) -> None:
    settings = replace(HALF_WAY, log_every=2, save_every=1, keep_last=3, loader_threads=3, bad_threshold=0.5)
    fit(settings, run.path, resume=True)
    assert same(weights(run), weights(finished))
    assert [folder.name[-1] for folder in run.saved()] == ["4", "5", "6"]
    assert yaml.safe_load(run.config.read_text())["log_every"] == 1  # what the run was started with stays on record


def test_another_size_of_micro_batches_gives_the_same_weights_to_rounding(finished: RunFolder, run: RunFolder) -> None:
    fit(replace(HALF_WAY, micro_batch=3), run.path, resume=True)
    for name, tensor in weights(finished).items():
        torch.testing.assert_close(weights(run)[name], tensor, rtol=1e-5, atol=1e-6)


@dataclass(frozen=True)
class MorePoints(ToyRun):
    """The same run on other data."""

    def stages(self) -> Sequence[Stage]:
        (stage,) = super().stages()
        assert isinstance(stage, Train)
        return (replace(stage, source=lambda context: PointSource(41)),)


def test_other_data_is_refused_in_the_middle_of_an_epoch(run: RunFolder) -> None:
    with pytest.raises(DataError, match=r"the data changed \(points-40 when saved, points-41 now\)"):
        fit(MorePoints(save_every=3), run.path, resume=True)


def test_the_environment_is_that_of_the_last_session_that_made_something(run: RunFolder) -> None:
    run.environment.write_text("{}")
    fit(HALF_WAY, run.path, resume=True)
    assert json.loads(run.environment.read_text())["packages"] == environment()["packages"]
    run.environment.write_text("{}")
    fit(HALF_WAY, run.path, resume=True)
    assert run.environment.read_text() == "{}"


def test_a_folder_that_holds_a_run_is_not_trained_over(finished: RunFolder) -> None:
    before = finished.metrics.read_bytes()
    with pytest.raises(ConfigError, match="holds a run already: --resume latest goes on with it"):
        fit(HALF_WAY, finished.path)
    assert finished.metrics.read_bytes() == before


@pytest.mark.parametrize("device", ["cuda:99", "mps", "nonsense", "cpu:x", "xpu", "meta"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path, device: str) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is there")
    if device == "xpu" and torch.xpu.is_available():
        pytest.skip("it is there")
    with pytest.raises(DeviceError, match=f"device '{device}'") as caught:
        fit(replace(HALF_WAY, device=device), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_project_to_log_to_without_its_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"pip install 'diptych\[wandb\]'"):
        fit(replace(HALF_WAY, wandb="project"), tmp_path / "run")


MADE: list[str] = []
FAILS: list[str] = []


def note(context: Context, what: str) -> None:
    MADE.append(what)
    if what in FAILS:
        raise DataError(f"{what} cannot be made")


@dataclass(frozen=True)
class Staged(ToyRun):
    """Something made, something trained, something reported."""

    def stages(self) -> Sequence[Stage]:
        def words(context: Context, folder: Path) -> None:
            (folder / "words.txt").write_text("half")
            note(context, "words")

        def report(context: Context) -> None:
            note(context, (context.artifact("words") / "words.txt").read_text())

        return (Artifact("words", words), *super().stages(), Report("report", report))


def test_stages_run_once_and_in_order_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    MADE.clear()
    FAILS[:] = ["words"]
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DataError, match="words cannot be made"):
        fit(Staged(), run.path)
    assert not list((run.path / "artifacts").iterdir()) and not run.checkpoints.exists()
    FAILS[:] = ["half"]
    with pytest.raises(DataError, match="half cannot be made"):
        fit(Staged(), run.path, resume=True)
    assert MADE == ["words", "words", "half"]
    trained = run.metrics.read_bytes()
    FAILS.clear()
    fit(Staged(), run.path, resume=True)
    assert MADE == ["words", "words", "half", "half"] and run.metrics.read_bytes() == trained
    fit(Staged(), run.path, resume=True)
    assert len(MADE) == 4
    assert json.loads((run.path / "costs.json").read_text())["stages"].keys() == {"train"}


@dataclass(frozen=True)
class Twice(ToyRun):
    """Two stages of training, the second with settings of its own."""

    def stages(self) -> Sequence[Stage]:
        (first,) = super().stages()
        assert isinstance(first, Train)
        settings = ToyRun(budget=Budget(steps=2), optimizer=AdamWConfig(lr=0.25), schedule=WarmupCosine(warmup=0))
        return (first, replace(first, name="tune", settings=settings))


def test_a_stage_has_settings_checkpoints_and_costs_of_its_own(tmp_path: Path) -> None:
    run = fit(Twice(), tmp_path / "run")
    assert {folder.name for folder in run.saved()} == {"train-00000006", "tune-00000002"}
    assert run.best_model().parent.name == "tune-00000002"
    lines = [(line["stage"], line["step"], line["samples"]) for line in run.lines()]
    assert lines[-3:] == [("train", 6, 48), ("tune", 1, 8), ("tune", 2, 16)]
    assert run.lines()[-2]["lr"] == 0.25
    stages = json.loads((run.path / "costs.json").read_text())["stages"]
    assert {name: costs["steps"] for name, costs in stages.items()} == {"train": 6, "tune": 2}
