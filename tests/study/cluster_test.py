"""A study on a Ray cluster: a real one of two raylets on this machine, or a double of the calls that are made."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diptych.core.errors import ConfigError, MissingExtra
from diptych.study import cluster as module
from diptych.study.cluster import Cluster
from diptych.study.config import StudyBudget, StudyRun
from diptych.study.machine import Shared, run_here
from diptych.study.queue import run_all

SMALL = ("--batch_size", "4", "--image.size", "32", "--model.vision.image_size", "32")
DATA = "scenes?objects=2&size=32&count=60"


def run(samples: int, seed: int = 0, *options: str) -> StudyRun:
    return StudyRun("clip_tiny", seed, DATA, StudyBudget(samples=samples), (*SMALL, *options), limit=6)


class Lost(Exception):
    """A machine that went away."""


class DoubleOfRay:
    """What `Cluster` calls: tasks are done when their answer is asked for."""

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self, does: Any) -> None:
        self.does, self.most, self.cancelled, self.left = does, 0, 0, False

    def init(self, **settings: Any) -> None:
        self.settings = settings

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name * 56, "NodeManagerHostname": name, "Alive": name != "c"} for name in "abc"]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0}

    def remote(self, **needs: Any) -> Any:
        def decorate(function: Any) -> Any:
            if function is run_here:
                self.needs = needs
                return SimpleNamespace(remote=lambda folder, shared: (self.does, (folder, shared)))
            task = SimpleNamespace(remote=lambda shared: (function, (shared,)))
            return SimpleNamespace(options=lambda scheduling_strategy: task)

        return decorate

    def wait(self, tasks: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        self.most = max(self.most, len(tasks))
        return tasks[:num_returns], tasks[num_returns:]

    def get(self, task: Any) -> Any:
        function, arguments = task
        return function(*arguments)

    def cancel(self, task: Any) -> None:
        self.cancelled += 1

    def shutdown(self) -> None:
        self.left = True


def doubled(monkeypatch: pytest.MonkeyPatch, does: Any) -> DoubleOfRay:
    pytest.importorskip("ray")  # how a task is given to one machine is a class of its own
    ray = DoubleOfRay(does)
    monkeypatch.setattr(module, "_ray", lambda: ray)
    return ray


def told_of(out: Path, runs: list[StudyRun], address: str = "auto", **settings: Any) -> list[str]:
    told: list[str] = []
    run_all(runs, out, Cluster(address, out, told.append, **settings), told.append)
    return told


def test_a_run_that_fails_and_one_that_is_lost_are_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def does(folder: str, shared: Shared) -> tuple[int, str]:
        if folder.endswith("-1"):
            (Path(folder) / "failed.json").write_text("{}")
            (Path(folder) / "log.txt").write_text("training: the loss is not finite\n")
            return 1, ""
        if folder.endswith("-2"):
            raise Lost("a traceback\nthe machine went away")
        (Path(folder) / "finished.json").write_text("{}")
        return 0, ""

    ray = doubled(monkeypatch, does)
    told = told_of(tmp_path, [run(8, seed) for seed in range(4)], most=2, cores=3, gpu=True)
    assert told == [
        "the cluster has 2 machines, 8 cores and 0 GPUs",
        "that is less than a run takes: the runs wait for a machine that joins",
        "1/4 clip_tiny-0 is finished",
        "2/4 clip_tiny-1 failed: training: the loss is not finite",
        "3/4 clip_tiny-2 was lost (Lost: the machine went away): the same command goes on with what it saved",
        "4/4 clip_tiny-3 is finished",
    ]
    assert (ray.most, ray.left) == (2, True) and ray.needs == {"num_cpus": 3, "num_gpus": 1, "max_retries": 0}
    assert not (tmp_path / "cluster.txt").exists()


def test_what_is_finished_needs_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = doubled(monkeypatch, None)
    (tmp_path / "clip_tiny-0").mkdir()
    (tmp_path / "clip_tiny-0" / "finished.json").write_text("{}")
    assert told_of(tmp_path, [run(8)]) == ["1 of 1 runs are finished already"] and not ray.left


def test_an_interrupt_cancels_and_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def does(folder: str, shared: Shared) -> tuple[int, str]:
        raise KeyboardInterrupt

    ray = doubled(monkeypatch, does)
    with pytest.raises(KeyboardInterrupt):
        told_of(tmp_path, [run(8, seed) for seed in range(3)])
    assert (ray.cancelled, ray.left) == (2, True)


@pytest.mark.parametrize("lacking", ["start", "mark", "words"])
def test_a_machine_says_what_it_does_not_see(lacking: str, tmp_path: Path) -> None:
    """Another disk may have a folder of the same name: then the words of the mark differ."""
    mark = tmp_path / "out" / "cluster.txt"
    mark.parent.mkdir()
    mark.write_text("abc")
    seen = {"start": str(tmp_path), "mark": str(mark), "words": "abc"}
    assert Shared(**seen).missing() == ""
    shared = Shared(**{**seen, lacking: str(tmp_path / "nowhere")})
    folder = "the working folder" if lacking == "start" else "the study's folder"
    assert shared.missing().startswith(folder)
    assert run_here(str(tmp_path / "out" / "clip_tiny-0"), shared) == (1, shared.missing())
    assert list(mark.parent.iterdir()) == [mark]


def test_an_install_without_ray_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"a study on a cluster needs ray: pip install 'diptych\[ray\]'"):
        Cluster("auto", tmp_path, print)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two machines, both of them this one."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Raylets

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_worker_niceness", "0")  # at Ray's 15 a busy machine never comes to its runs
    raylets = Raylets(initialize_head=True, head_node_args={"num_cpus": 1})
    raylets.add_node(num_cpus=1)
    yield str(raylets.address)
    raylets.shutdown()
    patch.undo()


def test_an_address_where_nobody_answers_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=r"no Ray cluster at '127.0.0.1:1' .*: `ray start --head` on one machine"):
        told_of(tmp_path, [run(8)], "127.0.0.1:1")


def test_a_machine_that_does_not_see_the_folder_refuses_the_study(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "write_text", lambda path, text: path.write_text("of another disk"))
    with pytest.raises(ConfigError, match=f"does not see the study's folder {tmp_path}: every machine of the cluster"):
        told_of(tmp_path, [run(8)], address)
    assert not (tmp_path / "clip_tiny-0" / "log.txt").exists()


def test_a_budget_below_a_step_fails_in_a_process_of_a_machine(address: str, tmp_path: Path) -> None:
    *_, told = told_of(tmp_path, [run(3)], address)
    assert told.startswith("1/1 clip_tiny-0 failed: training: 3 samples are less than one step")


@pytest.mark.slow
def test_runs_finish_or_fail_alone_and_are_not_repeated(address: str, tmp_path: Path) -> None:
    runs = [run(8), run(8, 1, "--optimizer.lr", "1e30"), run(8, 2)]
    told = told_of(tmp_path, runs, address)
    assert told[0] == "the cluster has 2 machines, 2 cores and 0 GPUs"
    assert sorted(line.partition(" ")[2][:22] for line in told[1:]) == [
        "clip_tiny-0 is finishe", "clip_tiny-1 failed: tr", "clip_tiny-2 is finishe",
    ]  # fmt: skip
    before = (tmp_path / "clip_tiny-0" / "finished.json").stat().st_mtime_ns
    assert told_of(tmp_path, [runs[0], runs[2]], address) == ["2 of 2 runs are finished already"]
    assert (tmp_path / "clip_tiny-0" / "finished.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_interrupt_saves_what_is_going_on_there(address: str, tmp_path: Path) -> None:
    metrics = tmp_path / "clip_tiny-0" / "metrics.jsonl"

    def interrupt() -> None:
        while not metrics.is_file():
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        told_of(tmp_path, [run(1200)], address)
    assert len(list((tmp_path / "clip_tiny-0" / "checkpoints").iterdir())) == 1
    assert not (tmp_path / "clip_tiny-0" / "failed.json").exists()
    assert told_of(tmp_path, [run(1200)], address)[-1] == "1/1 clip_tiny-0 is finished"
