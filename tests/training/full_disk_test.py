"""A disk that is full or cannot be written while training: one sentence, nothing half-written, and it goes on later."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystem
from training_toys import HALF_WAY, LinePredictor, LineTask, ToyRun, same, weights_in

from diptych.core.errors import StorageError
from diptych.core.records.run_folder import RunFolder
from diptych.core.task import Task
from diptych.training import checkpoint
from diptych.training.callbacks.base import StepLine
from diptych.training.callbacks.tensorboard import TensorBoard
from diptych.training.fit import fit


def require_whole(run: RunFolder, steps: set[str]) -> None:
    """Nothing in the folder is half there."""
    assert {path.name for path in run.checkpoints.iterdir()} == steps
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]
    for folder in run.saved():
        checkpoint.load(folder)


class Full(io.FileIO):
    """A file that takes half of what is written, on a disk that then is full."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(path, "w")
        self.error = error

    def write(self, data: Any) -> int:
        super().write(data[: len(data) // 2])
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full: free some space"),
        (RuntimeError("basic_ios::clear: iostream error\nmore"), "iostream error"),
    ],
)
def test_a_disk_that_fills_up_while_saving_leaves_the_earlier_checkpoint(
    finished: RunFolder, run: RunFolder, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    @contextmanager
    def stream(self: Any, path: Any, mode: str) -> Iterator[Any]:
        with Full(path, error) as file:
            yield file

    with monkeypatch.context() as patched:
        patched.setattr(FileSystem, "create_stream", stream)
        with pytest.raises(StorageError, match=said) as caught:
            fit(HALF_WAY, run.path, resume=True)
    assert str(caught.value).startswith("cannot write ") and "\n" not in str(caught.value)
    require_whole(run, {"train-00000003"})
    fit(HALF_WAY, run.path, resume=True)
    last = "train-00000006"
    assert same(weights_in(run.checkpoints / last), weights_in(finished.checkpoints / last))


class Disk:
    """A file system of its own, a few kilobytes small."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._mount("size=4k")

    def resize(self, size: str) -> None:
        self._mount(f"remount,size={size}")

    def read_only(self) -> None:
        self._mount("remount,ro")

    def _mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    found = Disk(tmp_path / "disk")
    yield found
    subprocess.run(["umount", str(found.place)], check=True)


class BigTask(LineTask):
    """A task whose checkpoint is about 100 kB."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(8_000))

    def predictor(self) -> LinePredictor:
        return LinePredictor(self)  # the spare numbers are of the model too


@dataclass(frozen=True)
class BigRun(ToyRun):
    """A run that saves more than a small disk holds."""

    def task(self) -> Task[Any]:
        return BigTask()


# TensorBoard's own thread meets the full disk too, and says so before its error reaches the loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_on_a_disk_that_is_really_full_stops_in_a_sentence_and_goes_on_when_there_is_room(
    disk: Disk, tmp_path: Path
) -> None:
    settings = BigRun(save_every=2)
    straight = fit(settings, tmp_path / "straight")
    expected = checkpoint.load(straight.checkpoints / "train-00000006")[1]
    run = RunFolder(disk.place / "run")
    stopped = []
    for kilobytes in (4, *range(8, 400, 16), 2000):
        disk.resize(f"{kilobytes}k")
        try:
            fit(settings, run.path, resume=True)
        except StorageError as error:
            assert "the disk is full" in str(error) or "No space left" in str(error)
            assert "\n" not in str(error)
            stopped.append(kilobytes)
            if run.checkpoints.is_dir():
                require_whole(run, {folder.name for folder in run.saved()})
    assert set(stopped) >= {4, 24, 104} and 2000 not in stopped
    found = checkpoint.load(run.checkpoints / "train-00000006")[1]
    assert same(found, expected)
    moments = {name.split("/")[2] for name in found if name.startswith("optimizer/")}
    assert moments == {"line.weight", "line.bias"}  # all but the spare one
    assert [line["step"] for line in run.lines()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_events_on_a_full_disk_are_a_sentence_too(disk: Disk) -> None:
    board = TensorBoard(disk.place / "events")
    board.start("train", 0, 10)
    with pytest.raises(StorageError, match=r"cannot write .*events: the disk is full"):
        for step in range(1000):
            board.log(StepLine("train", step, 8, 1.0, 0.5, {"size": 0.5}, 0.1, 1.0, 8.0, 0.0))
    with pytest.raises(StorageError, match=r"cannot write .*events: the disk is full"):
        board.end()


def test_a_read_only_disk_is_named(disk: Disk) -> None:
    disk.resize("2000k")
    fit(HALF_WAY, disk.place / "finished")
    run = fit(HALF_WAY, disk.place / "run")
    (run.artifact("train") / "done").unlink()
    disk.read_only()
    fit(HALF_WAY, disk.place / "finished", resume=True)  # has nothing to write
    for folder, resume in (("run", True), ("new", False)):
        with pytest.raises(StorageError, match="the file system is read-only: choose another folder"):
            fit(HALF_WAY, disk.place / folder, resume=resume)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match=r"cannot write .*file/run/config.yaml: Not a directory"):
        fit(HALF_WAY, tmp_path / "file" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("blocked", ["checkpoints", "artifacts", "events", "metrics.jsonl", "environment.json"])
def test_whatever_cannot_be_written_is_a_sentence(tmp_path: Path, blocked: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if blocked in ("metrics.jsonl", "environment.json"):
        (run / blocked / "inside").mkdir(parents=True)  # a folder where a file should be
    else:
        (run / blocked).write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=rf"cannot write .*{blocked}") as caught:
        fit(HALF_WAY, run)
    assert "\n" not in str(caught.value)
