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


def test_metrics_stop_at_a_cut_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert run.lines() == [{"step": 1}, {"step": 2}]
