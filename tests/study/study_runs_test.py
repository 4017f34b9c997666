"""Runs of a study, for real and small."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from diptych.commands.study import main as study_command
from diptych.study import one_run
from diptych.study.config import StudyBudget, StudyConfig, StudyRun, claim
from diptych.study.findings import read_runs, table
from diptych.study.local import Local
from diptych.study.queue import run_all

SMALL = ("--batch_size", "4", "--image.size", "32", "--model.vision.image_size", "32")
DATA = "scenes?objects=2&size=32&count=60"


def test_a_run_trains_counts_evaluates_and_answers(tmp_path: Path) -> None:
    claim(StudyRun("clip_tiny", 0, DATA, StudyBudget(samples=8), SMALL, limit=6), tmp_path / "clip_tiny-0")
    assert one_run.main(tmp_path / "clip_tiny-0") == 0
    config = StudyConfig(("clip_tiny",), DATA, StudyBudget(samples=8), limit=6)
    (run,) = read_runs(config, tmp_path)
    assert run.finished is not None
    (stage,) = run.finished.stages
    assert (stage.steps, stage.samples) == (2, 8) and stage.flops > 1e6 * stage.samples
    assert run.finished.absent["captioning"] == "has no generate_text"
    benchmarks = {row.ability.benchmark for row in table([run])}
    assert benchmarks >= {"retrieval", "zero_shot_classification", "matching", "scene_negatives", "scene_pairs"}
    assert [one["task"] for one in run.answers[:1]] == ["which caption"]


def test_a_failure_is_written_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "clip_tiny-0"
    claim(StudyRun("clip_tiny", 0, DATA, StudyBudget(samples=3), SMALL), folder)
    assert one_run.main(folder) == 1
    assert json.loads((folder / "failed.json").read_text())["why"].startswith("3 samples are less than one step")


@pytest.mark.slow
def test_two_processes_and_a_second_call_that_repeats_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    options = [f"{recipe}.{SMALL[i][2:]}={SMALL[i + 1]}" for recipe in ("clip_tiny", "siglip_tiny") for i in (0, 2, 4)]
    command = ["clip_tiny", "siglip_tiny", "--data", DATA, "--samples", "8", "--limit", "6", "--out", str(out)]
    assert study_command([*command, "--processes", "2", "--set", *options]) == 0
    assert (out / "study.html").is_file() and "2/2" in capsys.readouterr().out
    assert study_command([*command, "--set", *options]) == 0
    assert "2 of 2 runs are finished already" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupt_saves_and_the_study_goes_on(tmp_path: Path) -> None:
    runs = [StudyRun("clip_tiny", 0, DATA, StudyBudget(samples=4000), SMALL, limit=6)]
    metrics = tmp_path / "clip_tiny-0" / "metrics.jsonl"

    def interrupt() -> None:
        while not metrics.is_file():
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, tmp_path, Local(1, print), print)
    saved = list((tmp_path / "clip_tiny-0" / "checkpoints").iterdir())
    assert len(saved) == 1 and not (tmp_path / "clip_tiny-0" / "failed.json").exists()
    run_all(runs, tmp_path, Local(1, print), print)
    assert (tmp_path / "clip_tiny-0" / "finished.json").is_file()
