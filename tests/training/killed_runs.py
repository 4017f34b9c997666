"""Training in processes of their own that end at a chosen moment, and what two runs must have in common.

Processes are forked from a server that has imported everything, so a run takes about a second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diptych.training import checkpoint, state

STEPS = 30
TINY = (
    *("--data", "scenes?objects=1&size=32&count=96", "--image.size", "32", "--model.vision.image_size", "32"),
    *("--model.vision.width", "32", "--model.vision.heads", "2", "--model.vision.hidden", "64"),
    *("--model.text.width", "32", "--model.text.heads", "2", "--model.text.hidden", "64"),
    *("--model.vision.depth", "1", "--model.text.depth", "1", "--model.width", "16", "--threads", "1"),
    *("--batch_size", "16", "--budget.steps", str(STEPS), "--schedule.warmup", "5", "--log_every", "1"),
    *("--save_every", "3", "--evaluate_every", "10"),
)
"""Five epochs of six steps; a checkpoint every three steps, a measurement every ten."""

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "diptych.commands.train",
        "diptych.training.configured",
        "diptych.recipes.clip_tiny",
        "diptych.training.trainer",
        "diptych.evaluation.benchmarks.retrieval",
        "torch.utils.tensorboard",
        "torch._dynamo",  # which the first optimizer of a process imports
    ]
)

HALF_WRITTEN = "half of a file"


@dataclass(frozen=True)
class Moment:
    """When a process gets a signal: at the n-th time that it touches a file of the run.

    Attributes:
        nth: counted from 1; 0 for never.
        event: only such events of Python's audit hooks ("open", "os.rename", "os.remove"); "" for all of them; or
            HALF_WRITTEN: half of the training state is on the disk.
        name: only files whose names start so.
    """

    nth: int = 0
    event: str = ""
    name: str = ""
    number: int = signal.SIGKILL


WRITING = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod")


class _Watch:
    """Counts the moments and gives the signal at the right one."""

    def __init__(self, folder: Path, moment: Moment) -> None:
        self.folder, self.moment, self.count = str(folder), moment, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in WRITING or not isinstance(arguments[0], str | os.PathLike):
            return
        path, inside = os.fspath(arguments[0]), isinstance(arguments[-1], int) and arguments[-1] > 2
        removing = event in ("os.remove", "os.rmdir") and inside  # names below the folder that rmtree holds open
        if self.moment.event in ("", event) and (removing or path.startswith(self.folder)):
            self.see(Path(path).name)

    def see(self, name: str) -> None:
        if name.startswith(self.moment.name):
            self.count += 1
            if self.count == self.moment.nth:
                os.kill(os.getpid(), self.moment.number)

    def write(self, tensors: state.Tensors, folder: Path) -> None:
        """state.write that is struck in the middle."""
        _WRITE(tensors, folder)
        (file,) = folder.iterdir()
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
        self.see(folder.name)
        file.write_bytes(data)


_WRITE = state.write


def _train(folder: Path, arguments: Sequence[str], moment: Moment) -> None:
    """The process: `diptych train`."""
    from diptych.cli import main

    with folder.with_suffix(".log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    watch = _Watch(folder, moment)
    if moment.event == HALF_WRITTEN:
        checkpoint.write = watch.write  # type: ignore[attr-defined]
    else:
        sys.addaudithook(watch)
    code = main(["train", "clip_tiny", "--run", str(folder), *arguments])
    sys.stdout.flush()
    folder.with_suffix(".count").write_text(str(watch.count))
    os._exit(code)  # as a process ends; the server's own clean-up is not ours


def start(folder: Path, *arguments: str, moment: Moment = Moment()) -> Any:
    """A process that trains; its output goes to `<folder>.log`."""
    process = SERVER.Process(target=_train, args=(folder, arguments, moment))
    process.start()
    return process


def train(folder: Path, *arguments: str, moment: Moment = Moment()) -> int:
    """Trains to the end or to the moment; the exit code, or minus the signal's number."""
    process = start(folder, *arguments, moment=moment)
    process.join(120)
    assert process.exitcode is not None, f"still running: {said(folder)}"
    return int(process.exitcode)


def said(folder: Path) -> str:
    """What the run's processes printed."""
    return folder.with_suffix(".log").read_text()


def moments(folder: Path) -> int:
    """How many moments the last process that was not killed saw."""
    return int(folder.with_suffix(".count").read_text())


def resume(folder: Path) -> None:
    assert train(folder, "--resume", "latest") == 0, said(folder)


def forget(folder: Path) -> None:
    """Removes a run."""
    shutil.rmtree(folder, ignore_errors=True)


TIMES = {"seconds", "images_per_second", "data_wait"}


def lines(folder: Path) -> list[dict[str, Any]]:
    """The logged steps, without what depends on the clock."""
    text = (folder / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in text]


def assert_same_run(found: Path, expected: Path) -> None:
    """Every weight, moment, metric and file name of two runs is the same, to the bit."""
    assert lines(found) == lines(expected)
    assert names(found) == names(expected)
    for path in sorted(expected.rglob("*")):
        other = found / path.relative_to(expected)
        if path.name in ("best.json", "config.yaml", "tokenizer.json", "model.safetensors", "model.json", "data.json"):
            assert other.read_bytes() == path.read_bytes(), path
        elif path.name == checkpoint.TENSORS and path.is_dir():
            assert_equal(state.read(other), state.read(path), path.name)
        elif path.name == "state.json":
            assert_equal(without_seconds(other), without_seconds(path), path.name)


def names(folder: Path) -> list[str]:
    """Every file but TensorBoard's, of which each process writes its own."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(str(path) for path in paths if path.parts[0] != "events")


def without_seconds(path: Path) -> dict[str, Any]:
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "seconds"}


def assert_equal(found: Any, expected: Any, where: str) -> None:
    """Nested values are the same, tensors to the bit."""
    assert type(found) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype and torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            assert_equal(found[name], value, f"{where}/{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_equal(found[index], value, f"{where}/{index}")
    else:
        assert found == expected, where
