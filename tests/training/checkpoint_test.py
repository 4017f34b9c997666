"""Checkpoints that are damaged, of something else, or cannot be written: one sentence, and nothing half done."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training_toys import HALF_WAY, LineTask, refused, same, weights_in

from diptych.capabilities.load import load as load_model
from diptych.core.errors import CheckpointError
from diptych.core.records.run_folder import RunFolder
from diptych.training import checkpoint
from diptych.training.fit import fit
from diptych.training.state import TrainingState


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def shard(folder: Path) -> Path:
    """The one file of a checkpoint's tensors."""
    (found,) = (folder / checkpoint.TENSORS).iterdir()
    return found


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.99])
def test_a_truncated_training_state_is_refused_by_name(run: RunFolder, share: float) -> None:
    folder = run.checkpoints / "train-00000003"
    cut(shard(folder), share)
    assert "train-00000003 is truncated or damaged" in refused(run)
    state = json.loads((folder / "state.json").read_text())
    state["files"][shard(folder).name] = shard(folder).stat().st_size  # as if it had been written so
    (folder / "state.json").write_text(json.dumps(state))
    assert "training is truncated or damaged" in refused(run)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_truncated_state_file_is_refused_by_name(run: RunFolder, share: float) -> None:
    cut(run.checkpoints / "train-00000003" / "state.json", share)
    assert "train-00000003 is truncated or damaged" in refused(run)


@pytest.mark.parametrize("text", ["[1, 2]", '{"stage": "train", "steps": 3}', "{}", "null"])
def test_a_state_file_of_something_else_is_refused(run: RunFolder, text: str) -> None:
    (run.checkpoints / "train-00000003" / "state.json").write_text(text)
    assert "train-00000003 is truncated or damaged" in refused(run)


def test_a_missing_file_is_named(run: RunFolder) -> None:
    folder = run.checkpoints / "train-00000003"
    for path in (shard(folder), folder / "state.json"):
        path.unlink()
        assert f"train-00000003 is no complete checkpoint, {path.name} is missing: remove it" in refused(run)


@pytest.mark.parametrize(("name", "said"), [("model.safetensors", "no weights at"), ("model.json", "not a model")])
def test_a_missing_file_of_the_model_is_named_on_loading(run: RunFolder, name: str, said: str) -> None:
    (run.checkpoints / "train-00000003" / "model" / name).unlink()
    with pytest.raises(CheckpointError, match=said):
        load_model(run.path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_weights_of_the_model_are_refused_on_loading(run: RunFolder, share: float) -> None:
    cut(run.checkpoints / "train-00000003" / "model" / "model.safetensors", share)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated or damaged") as caught:
        load_model(run.path)
    assert "\n" not in str(caught.value)


def test_another_file_in_the_place_of_the_state_is_refused(run: RunFolder) -> None:
    path = shard(run.checkpoints / "train-00000003")
    size = path.stat().st_size
    save_file({"weights": torch.zeros(3)}, path)
    assert "another size" in refused(run)
    path.write_bytes(b"x" * size)
    assert "training is truncated or damaged" in refused(run)


def test_what_is_restored_is_what_was_saved(run: RunFolder) -> None:
    folder = run.checkpoints / "train-00000003"
    progress, tensors = checkpoint.load(folder)
    assert (progress.stage, progress.step, progress.samples) == ("train", 3, 24)
    task = LineTask()
    optimizers = {"main": HALF_WAY.optimizer.build(task.trainable()["main"])}
    torch.manual_seed(1)
    state = TrainingState.of(task, optimizers, None)
    state.restore(folder / checkpoint.TENSORS)
    assert same(task.state_dict(), weights_in(folder))
    assert float(optimizers["main"].state[task.line.weight]["step"]) == 3
    assert same(state.tensors(), tensors)
    assert torch.equal(torch.get_rng_state(), tensors["random"])
    assert {name.partition("/")[0] for name in tensors} == {"task", "optimizer", "random"}


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    task = LineTask()
    state = {"random": torch.get_rng_state()}
    for step in (1, 2, 10, 9, 11):
        folder = checkpoint.save(run, checkpoint.Progress("train", step), state, lambda: nullcontext(task.predictor()))
        if step == 2:
            checkpoint.mark_best(run, folder, "score", 0.5)
    checkpoint.save(run, checkpoint.Progress("tune", 1), state, lambda: nullcontext(task.predictor()))
    checkpoint.prune(run, "train", 2)
    assert {f.name for f in run.saved()} == {"train-00000002", "train-00000010", "train-00000011", "tune-00000001"}
    assert checkpoint.latest(run, "train") == run.checkpoints / "train-00000011"
    assert run.best_model() == run.checkpoints / "train-00000002" / "model"


def test_what_a_killed_save_left_is_never_resumed_from_and_goes_with_the_next_save(run: RunFolder) -> None:
    killed = run.checkpoints / ".train-00000006.a1b2c3d4"
    shutil.copytree(run.checkpoints / "train-00000003", killed)
    pruned = run.checkpoints / ".train-00000001._removed"
    pruned.mkdir()
    foreign = [run.checkpoints / ".DS_Store", run.checkpoints / "train-copy", run.checkpoints / "notes.txt"]
    foreign[0].write_text("")
    foreign[1].mkdir()
    foreign[2].write_text("")
    assert checkpoint.latest(run, "train") == run.checkpoints / "train-00000003"
    fit(HALF_WAY, run.path, resume=True)
    assert {path.name for path in run.checkpoints.iterdir()} == {"train-00000006", *(path.name for path in foreign)}


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_once_it_is_removed(
    finished: RunFolder, run: RunFolder
) -> None:
    damaged = run.checkpoints / "train-00000006"
    shutil.copytree(finished.checkpoints / damaged.name, damaged)
    cut(shard(damaged), 0.5)
    assert "train-00000006 is truncated" in refused(run)
    shutil.rmtree(damaged)
    fit(HALF_WAY, run.path, resume=True)
    expected = weights_in(finished.checkpoints / damaged.name)
    assert same(weights_in(damaged), expected)
