"""Killed at any moment, a run goes on bit for bit as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
from killed_runs import (
    HALF_WRITTEN,
    STEPS,
    TINY,
    Moment,
    assert_same_run,
    lines,
    moments,
    resume,
    said,
    start,
    train,
)

EVERYTHING = (*TINY, "--ema_decay", "0.9", "--micro_batch", "6", "--precision", "bf16")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert train(folder, *TINY) == 0, said(folder)
    assert [line["step"] for line in lines(folder)] == list(range(1, STEPS + 1))
    return folder


KILLED = {
    "between two checkpoints": Moment(14, "open", "metrics.jsonl"),
    "in the middle of writing a checkpoint": Moment(4, HALF_WRITTEN, "training"),
    "in the middle of removing an old checkpoint": Moment(7, "os.remove", "shard"),
}


@pytest.mark.parametrize("moment", KILLED.values(), ids=KILLED)
def test_a_killed_run_goes_on_bit_for_bit(straight: Path, tmp_path: Path, moment: Moment) -> None:
    folder = tmp_path / "run"
    assert train(folder, *TINY, moment=moment) == -signal.SIGKILL, said(folder)
    assert not (folder / "artifacts" / "train").exists()
    resume(folder)
    assert_same_run(folder, straight)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, with a weight average, micro-batches and bf16."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    assert train(folder, *EVERYTHING) == 0, said(folder)
    return folder


@pytest.mark.parametrize(
    ("number", "code", "settings", "expected"),
    [(signal.SIGTERM, 143, EVERYTHING, "averaged"), (signal.SIGINT, 130, TINY, "straight")],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_saves_first_and_the_run_goes_on_bit_for_bit(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
    settings: tuple[str, ...],
    expected: str,
) -> None:
    folder = tmp_path / "run"
    assert train(folder, *settings, moment=Moment(14, "open", "metrics.jsonl", number)) == code
    step = len(lines(folder))
    assert 12 < step < 15 and step % 3 != 0 and step % 6 != 0  # no checkpoint was due, in the middle of an epoch
    assert (folder / "checkpoints" / f"train-{step:08d}").is_dir()
    assert f"stopped by {number.name}; saved train-{step:08d}: go on with --resume latest" in said(folder)
    resume(folder)
    assert_same_run(folder, request.getfixturevalue(expected))


def test_resuming_a_finished_run_does_nothing(straight: Path) -> None:
    before = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    resume(straight)
    after = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    assert after == before


def random_moments(total: int, seconds: float) -> list[Moment | float]:
    """Half of them anywhere in time, half at any touch of a file, nearly all of which are those of a checkpoint."""
    draw = random.Random(20)
    touches = [Moment(draw.randint(1, total)) for _ in range(10)]
    return [*touches, *(draw.uniform(0.02, 0.98) * seconds for _ in range(10))]


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_moments_goes_on_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    timed = tmp_path / "timed"
    before = time.perf_counter()
    assert train(timed, *TINY, moment=Moment(10**9)) == 0
    seconds, total = time.perf_counter() - before, moments(timed)
    assert total > 300
    for index, moment in enumerate(random_moments(total, seconds)):
        folder = tmp_path / f"run{index}"
        if isinstance(moment, Moment):
            assert train(folder, *TINY, moment=moment) == -signal.SIGKILL, moment
        else:
            process = start(folder, *TINY)
            time.sleep(moment)
            process.kill()
            process.join()
        kept = folder / "config.yaml"
        assert train(folder, "--resume", "latest", *(() if kept.exists() else TINY)) == 0, (moment, said(folder))
        assert_same_run(folder, straight)


@pytest.mark.slow
def test_a_run_killed_before_its_new_best_is_named_names_it_when_it_goes_on(straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, *TINY, moment=Moment(1, "os.rename", ".best.json")) == -signal.SIGKILL
    assert not (folder / "best.json").exists() and (folder / "checkpoints" / "train-00000010").is_dir()
    resume(folder)
    assert_same_run(folder, straight)


@pytest.mark.slow
def test_averages_micro_batches_and_bf16_go_on_bit_for_bit_after_a_kill(averaged: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, *EVERYTHING, moment=Moment(17, "open", "metrics.jsonl")) == -signal.SIGKILL
    resume(folder)
    assert_same_run(folder, averaged)


@pytest.mark.slow
def test_a_run_killed_again_and_again_goes_on_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    folder, draw = tmp_path / "run", random.Random(21)
    code = train(folder, *TINY, moment=Moment(40))
    killed = 1
    while code == -signal.SIGKILL:
        code = train(folder, "--resume", "latest", moment=Moment(draw.randint(60, 160)))
        killed += 1
    assert code == 0 and killed > 4
    assert json.loads((folder / "checkpoints" / f"train-{STEPS:08d}" / "state.json").read_text())["step"] == STEPS
    assert_same_run(folder, straight)
