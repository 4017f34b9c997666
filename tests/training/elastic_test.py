"""A run that is killed at any moment goes on, on any number of processes, as if nothing had been.

Every session sees the samples and pixels that an uninterrupted run sees at that step; the weights are bit-equal on the
same number of processes and within 1e-5 across numbers.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
import torch
from sessions import STEPS, Kill, SeenRun, run_session, said, seen, weights

from diptych.training.parallel import Parallel


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run on one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert run_session(1, folder, SeenRun()) == [0], said(folder, 0)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run on two processes."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    assert run_session(2, folder, SeenRun()) == [0, 0], said(folder, 0)
    return folder


def require_equal(found: Path, expected: Path, tolerance: float) -> None:
    """The same samples and pixels at every step, none twice, none lost; the same weights, moments and average."""
    steps, expected_steps = seen(found), seen(expected)
    assert list(steps) == list(range(STEPS))
    assert steps == expected_steps
    ours, theirs = weights(found), weights(expected)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if tolerance:
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=tolerance, msg=name)
        else:
            assert torch.equal(ours[name], tensor), name


def test_a_run_sees_every_sample_of_its_mixture(alone: Path) -> None:
    drawn = [key for step in seen(alone).values() for key, _ in step]
    assert len(drawn) == 8 * STEPS
    for epoch in range(3):
        assert len(set(drawn[64 * epoch : 64 * (epoch + 1)])) == 64


def test_two_processes_see_and_learn_what_one_does(alone: Path, pair: Path) -> None:
    require_equal(pair, alone, 1e-5)


FIRST = [(1, "ddp"), (2, "fsdp"), *(pytest.param((4, kind), marks=pytest.mark.slow) for kind in ("ddp", "fsdp"))]


@pytest.mark.parametrize("first", FIRST, ids=lambda f: f"{f[1]}-{f[0]}")
def test_a_run_stopped_on_some_processes_goes_on_on_others(
    alone: Path, tmp_path: Path, first: tuple[int, Parallel]
) -> None:
    folder, (size, kind) = tmp_path / "run", first
    stop = Kill((size - 1,), 8, signal.SIGTERM, "seen")  # in the eighth step
    assert run_session(size, folder, SeenRun(parallel=kind), stop, "first") == [143] * size, said(folder, 0)
    then, other = (2, "fsdp") if size != 2 else (1, "ddp")
    assert run_session(then, folder, SeenRun(parallel=other), name="second") == [0] * then, said(folder, 0)
    require_equal(folder, alone, 1e-5)


KILLED = {
    "one process": Kill((1,), 11, name="seen"),
    "one process while it writes a checkpoint": Kill((1,), 2, name="shard"),
    "the main process while it writes a checkpoint": Kill((0,), 3, name="model.safetensors"),
}


KILLED_SLOWLY = {
    "the main process": Kill((0,), 11, name="seen"),
    "all processes": Kill((0, 1), 8, name="seen"),
    "the main process before a checkpoint gets its name": Kill((0,), 2, name=".train-"),
}
KILLS = [pytest.param(kill, id=name) for name, kill in KILLED.items()]
KILLS += [pytest.param(kill, id=name, marks=pytest.mark.slow) for name, kill in KILLED_SLOWLY.items()]


@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_run_goes_on_bit_for_bit(pair: Path, tmp_path: Path, kill: Kill) -> None:
    folder = tmp_path / "run"
    codes = run_session(2, folder, SeenRun(), kill, "killed")
    assert [codes[rank] for rank in kill.ranks] == [-signal.SIGKILL] * len(kill.ranks), said(folder, 0)
    assert None not in codes and 0 not in codes, "a process hung, or did not notice"
    assert run_session(2, folder, SeenRun(), name="again") == [0, 0], said(folder, 0)
    require_equal(folder, pair, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_random_moments_on_random_numbers_of_processes(alone: Path, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    folder = tmp_path / "run"
    for number in range(12):
        size = draw.choice([1, 2, 4])
        ranks = tuple(range(size)) if draw.random() < 0.3 else (draw.randrange(size),)
        kill = Kill(ranks, draw.randrange(1, 60))
        settings = SeenRun(parallel=draw.choice(["ddp", "fsdp"]))
        codes = run_session(size, folder, settings, kill, f"session {number}", patience=120)
        assert None not in codes, f"a process hung: {said(folder, 0)}"
        if codes == [0] * size:
            break
    assert run_session(2, folder, SeenRun(), name="last", patience=120) == [0, 0], said(folder, 0)
    require_equal(folder, alone, 1e-5)
