"""What is shown and kept of a run: metrics.jsonl, TensorBoard, the terminal, Weights & Biases."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from diptych.core.errors import MissingExtra
from diptych.core.records.run_folder import RunFolder
from diptych.training.callbacks.base import StepLine
from diptych.training.callbacks.console import ProgressBar
from diptych.training.callbacks.metrics_file import MetricsFile
from diptych.training.callbacks.tensorboard import TensorBoard, numbers
from diptych.training.callbacks.wandb import Wandb

LINE = StepLine(
    stage="train",
    step=1,
    samples=8,
    seconds=0.5,
    loss=2.5,
    parts={"contrastive": 2.25},
    lr=0.125,
    grad_norm=1.5,
    images_per_second=1234.0,
    data_wait=0.25,
    summary={"scale": 14.0},
    evaluation={"r10": 0.375},
)
FLAT = {
    "loss": 2.5,
    "lr": 0.125,
    "grad_norm": 1.5,
    "images_per_second": 1234.0,
    "data_wait": 0.25,
    "parts/contrastive": 2.25,
    "summary/scale": 14.0,
    "evaluation/r10": 0.375,
}


def line(step: int, **changes: Any) -> StepLine:
    return replace(LINE, step=step, samples=8 * step, loss=step / 8, **changes)


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Every number that TensorBoard shows: tag -> step -> value."""
    shown = EventAccumulator(str(folder))
    shown.Reload()
    return {tag: {event.step: event.value for event in shown.Scalars(tag)} for tag in shown.Tags()["scalars"]}


def test_events_and_metrics_hold_the_same_numbers(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    metrics, board = MetricsFile(run), TensorBoard(run.events)
    for callback in (metrics, board):
        callback.start("train", 0, 4)
        for step in (1, 2, 4):
            callback.log(line(step, evaluation={"r10": 0.375} if step == 4 else {}))
        callback.end()
    shown = events(run.events)
    assert {tag.removeprefix("train/") for tag in shown} == set(FLAT)
    assert shown["train/loss"] == {1: 0.125, 2: 0.25, 4: 0.5}
    assert shown["train/evaluation/r10"] == {4: 0.375}
    for written in run.lines():
        flat = {name: written[name] for name in FLAT if "/" not in name}
        for group in ("parts", "summary", "evaluation"):
            flat |= {f"{group}/{name}": value for name, value in written.get(group, {}).items()}
        step = written["step"]
        assert {tag.removeprefix("train/"): values[step] for tag, values in shown.items() if step in values} == flat


def test_lines_are_flat_numbers_and_nothing_is_left_out() -> None:
    assert numbers(LINE) == FLAT
    plain = LINE.plain()
    assert plain["samples"] == 8 and plain["seconds"] == 0.5 and plain["stage"] == "train"
    assert "evaluation" not in replace(LINE, evaluation={}).plain()


def test_steps_that_will_be_done_again_are_dropped_on_resumption(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    first = MetricsFile(run)
    first.start("warm", 0, 4)
    first.log(replace(line(9), stage="warm"))
    for step in (1, 2, 3, 4):
        first.log(line(step))
    with run.metrics.open("a") as file:
        file.write('{"stage": "train", "st')  # cut off by a kill
    again = MetricsFile(run)
    again.start("train", 2, 4)
    again.log(line(3, grad_norm=7.0))
    found = [(one["stage"], one["step"], one["grad_norm"]) for one in run.lines()]
    assert found == [("warm", 9, 1.5), ("train", 1, 1.5), ("train", 2, 1.5), ("train", 3, 7.0)]
    assert all(json.loads(text) for text in run.metrics.read_text().splitlines())


def test_tensorboard_hides_what_an_earlier_session_wrote_of_later_steps(tmp_path: Path) -> None:
    for begin, steps, shift in ((0, (1, 2, 3, 4, 5, 6), 0.0), (2, (3, 4), 100.0)):
        board = TensorBoard(tmp_path)
        board.start("train", begin, 4)
        for step in steps:
            board.log(replace(line(step), loss=step + shift))
        board.end()
        time.sleep(1.0)  # event files are read in the order of the second in their names
    assert events(tmp_path)["train/loss"] == {1: 1.0, 2: 2.0, 3: 103.0, 4: 104.0}


def test_the_terminal_shows_rate_wait_and_measurements() -> None:
    output = io.StringIO()
    bar = ProgressBar(Console(file=output, width=40))  # lines are not broken where a terminal's would be
    bar.start("train", 0, 100)
    for step in range(1, 101):
        bar.after_step(step)
        if step % 5 == 0:
            bar.log(line(step, evaluation={"r10": 0.375} if step == 50 else {}))
    bar.end()
    printed = output.getvalue().splitlines()
    assert printed[0] == "train 5/100  loss 0.625  1,234 images/s  waiting 25%"
    assert printed[5] == "train 50/100  loss 6.250  1,234 images/s  waiting 25%  r10 0.375"
    steps = [*range(5, 50, 10), *range(50, 101, 10)]  # every tenth, and what was measured
    assert [text.split()[1] for text in printed] == [f"{step}/100" for step in steps]


def test_a_terminal_has_a_bar_and_remaining_time() -> None:
    output = io.StringIO()
    bar = ProgressBar(Console(file=output, width=120, force_terminal=True))
    bar.start("train", 5, 10)
    bar.after_step(6)
    bar.log(line(6))
    bar.end()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
    assert re.search(r"train \S+ +6/10 [-0-9]+:[-0-9:]+ loss 0\.750  1,234 images/s  waiting 25%", shown)


def test_weights_and_biases_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    sentence = r"logging to Weights & Biases needs wandb: pip install 'diptych\[wandb\]'"
    with pytest.raises(MissingExtra, match=sentence):
        Wandb("project", "run", {})


def test_weights_and_biases_gets_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def init(**settings: Any) -> SimpleNamespace:
        sent.append(settings)
        return SimpleNamespace(log=lambda values, step: sent.append((step, values)), finish=lambda: sent.append("end"))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    callback = Wandb("project", "run", {"seed": 1})
    callback.log(LINE)
    callback.end()
    assert sent[0].items() >= {"project": "project", "name": "run", "config": {"seed": 1}}.items()
    assert sent[1:] == [(1, {f"train/{name}": value for name, value in FLAT.items()}), "end"]
