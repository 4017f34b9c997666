"""`diptych train`: fields by dotted name, and resuming without saying them again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from diptych.cli import main

SMALL = ["--data", "scenes?objects=1&count=64", "--threads", "1", "--batch_size", "16", "--optimizer.lr", "2e-3"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two of four steps: as a run stands after an interruption that came at the end of step two."""
    folder = tmp_path / "vit"
    more = ["--budget.steps", "2", "--image.views.flip", "0.25"]
    assert main(["train", "vit_tiny", "--run", str(folder), *SMALL, *more]) == 0
    (folder / "artifacts" / "train" / "done").unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["budget"]["steps"] = 4
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


def test_resuming_takes_the_fields_of_the_run(run: Path) -> None:
    before = yaml.safe_load((run / "config.yaml").read_text())
    assert (before["optimizer"]["lr"], before["image"]["views"]["flip"]) == (2e-3, 0.25)
    assert main(["train", "vit_tiny", "--run", str(run), "--resume", "latest", "--log_every", "1"]) == 0
    assert yaml.safe_load((run / "config.yaml").read_text()) == before
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 3, 4]


def test_a_field_that_changes_the_result_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["train", "vit_tiny", "--run", str(run), "--resume", "latest", "--optimizer.lr", "1"]) == 2
    assert "with another 'optimizer'" in capsys.readouterr().err
    assert main(["train", "clip_tiny", "--run", str(run), "--resume", "latest"]) == 2
    assert "with another 'name' (vit_tiny there, clip_tiny now)" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_not_trained_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["train", "vit_tiny", "--run", str(run)]) == 2
    assert "--resume latest goes on with it" in capsys.readouterr().err


def test_wrong_fields_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        (
            "--model.vision.widht",
            "3",
        ): "unknown field of vit_tiny 'model.vision.widht': did you mean 'model.vision.width'?",
        ("--budget.steps", "many"): "many",
        ("--image.size", "65"): "the processor makes pictures of 65 pixels, the tower takes 64",
        ("--data", str(tmp_path / "none")): f"no data at {tmp_path / 'none'}",
        ("--device", "cuda:99"): "device 'cuda:99' is not there",
    }
    for arguments, sentence in cases.items():
        assert main(["train", "vit_tiny", "--run", str(tmp_path / "run" / arguments[0]), *arguments]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1, said
    assert main(["train", "vit_tyni"]) == 2
    assert "did you mean 'vit_tiny'" in capsys.readouterr().err


def test_a_run_that_got_nowhere_does_not_keep_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    assert main(["train", "vit_tiny", "--run", str(folder), "--data", str(tmp_path / "none")]) == 2
    assert main(["train", "vit_tiny", "--run", str(folder), *SMALL, "--budget.steps", "1"]) == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == SMALL[1]


def test_a_budget_in_samples_replaces_one_in_steps(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    assert main(["train", "vit_tiny", "--run", str(folder), *SMALL, "--budget.samples", "32"]) == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["budget"] == {"steps": 0, "samples": 32}
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 2
