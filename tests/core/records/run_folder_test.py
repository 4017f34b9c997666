import json
import os
from pathlib import Path

import pytest

from diptych.core.errors import CheckpointError
from diptych.core.records.run_folder import RunFolder


def checkpoint(run: RunFolder, name: str, when: int) -> Path:
    folder = run.checkpoints / name
    (folder / "model").mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    os.utime(folder / "state.json", ns=(when, when))
    return folder


def test_the_best_model_else_the_newest(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        run.best_model()
    old, new = checkpoint(run, "train-00000002", 1_000), checkpoint(run, "train-00000001", 2_000)
    (run.checkpoints / ".train-3.part").mkdir()
    assert run.saved() == [old, new]
    assert run.best_model() == new / "model"
    (tmp_path / "best.json").write_text(json.dumps({"checkpoint": old.name}))
    assert run.best_model() == old / "model"


def test_only_what_a_save_names_is_a_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.saved() == []
    whole = checkpoint(run, "two-words-00000002", 1_000)
    for name in (".train-00000003.a1b2c3d4", ".train-00000003._removed", "train-copy", "train", "00000003"):
        (run.checkpoints / name).mkdir()
    (run.checkpoints / "train-00000004").write_text("a file")
    assert run.saved() == [whole]


def test_a_checkpoint_without_its_state_is_listed_for_its_reader_to_refuse(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    whole = checkpoint(run, "train-00000001", 1_000)
    damaged = checkpoint(run, "train-00000002", 2_000)
    (damaged / "state.json").unlink()
    assert run.saved() == [whole, damaged]


def test_a_best_checkpoint_that_is_gone_gives_way_to_the_newest(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    new = checkpoint(run, "train-00000002", 2_000)
    (tmp_path / "best.json").write_text(json.dumps({"checkpoint": "train-00000001"}))
    assert run.best_model() == new / "model"


def test_metrics_stop_at_a_cut_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert run.lines() == [{"step": 1}, {"step": 2}]
