"""Training on two processes: the numbers of one, and a signal to any of them stops both behind the same step."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from killed_runs import SERVER
from training_toys import LinePredictor, LineTask, ToyRun, same, weights_in

from diptych.core.errors import Interrupted
from diptych.core.records.run_folder import RunFolder
from diptych.core.task import Task
from diptych.training.fit import fit


class Signalled(LineTask):
    """The second process gets a signal in its third step; the first one takes its time to save."""

    steps = 0

    def after_step(self) -> None:
        self.steps += 1
        if self.steps == 3 and dist.is_initialized() and dist.get_rank() == 1:
            signal.raise_signal(signal.SIGTERM)

    def predictor(self) -> LinePredictor:
        time.sleep(0.5)
        return super().predictor()


@dataclass(frozen=True)
class SignalledRun(ToyRun):
    """Stops in its third step on the second process."""

    def task(self) -> Task[Any]:
        return Signalled()


def session(rank: int, port: int, folder: Path, settings: ToyRun, resume: bool) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    try:
        fit(settings, folder, resume=resume)
    except Interrupted as stopped:
        # Nobody has left before the state is on the disk.
        assert (folder / "checkpoints" / "train-00000003" / "state.json").is_file()
        os._exit(stopped.exit_code)
    os._exit(0)


def two_processes(folder: Path, settings: ToyRun, resume: bool = False) -> list[int | None]:
    """Runs on two processes; their exit codes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [SERVER.Process(target=session, args=(rank, port, folder, settings, resume)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    return [process.exitcode for process in processes]


def last(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = weights_in(folder / "checkpoints" / "train-00000006")
    return tensors


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_two_processes_train_as_one(tmp_path: Path, micro_batch: int) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fit(ToyRun(micro_batch=micro_batch), one)
    assert two_processes(two, ToyRun(micro_batch=micro_batch)) == [0, 0]
    for name, tensor in last(one).items():
        torch.testing.assert_close(last(two)[name], tensor, rtol=1e-5, atol=1e-5)
    losses = [[line["loss"] for line in RunFolder(folder).lines()] for folder in (one, two)]
    assert len(losses[1]) == 6 and losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_signal_to_one_process_stops_both_behind_the_same_step(tmp_path: Path) -> None:
    straight, folder = tmp_path / "straight", tmp_path / "run"
    assert two_processes(straight, ToyRun()) == [0, 0]
    assert two_processes(folder, SignalledRun()) == [143, 143]
    assert [path.name for path in RunFolder(folder).saved()] == ["train-00000003"]
    assert two_processes(folder, ToyRun(), resume=True) == [0, 0]
    assert same(last(folder), last(straight))
