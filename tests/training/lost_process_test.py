"""A process that dies, hangs or breaks ends the run on all, within a bounded time, in a sentence that names it."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sessions import Kill, SeenRun, run_session, said

HASTY = SeenRun(stall_timeout=4.0)


def test_a_process_that_is_killed_is_named_by_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    began = time.monotonic()
    codes = run_session(3, folder, SeenRun(), Kill((1,), 5, name="seen"))
    assert codes == [2, -signal.SIGKILL, 2]
    assert time.monotonic() - began < 45  # the watch would have waited for its timeout only with a lost connection
    for rank in (0, 2):
        assert "process 1 ended without a word (killed, out of memory, or the machine is lost)" in said(folder, rank)
        assert "go on with --resume latest, on any number of processes" in said(folder, rank)


def test_a_process_that_is_frozen_is_named_within_the_timeout(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    began = time.monotonic()
    codes = run_session(2, folder, HASTY, Kill((1,), 5, signal.SIGSTOP, "seen"), patience=40)
    assert codes == [75, None]
    assert time.monotonic() - began < 60
    assert "no step for" in said(folder, 0) and "process 1 gives no sign of life" in said(folder, 0)


FAULTS = {
    "hangs": (75, "process 1 is still waiting for the data in step"),
    "breaks": (2, "process 1 stopped: the disk with the pictures is gone"),
    "runs out of memory": (1, "process 1 stopped: no memory is left"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_process_whose_data_fail_is_named_with_its_reason(tmp_path: Path, fault: str) -> None:
    folder, (own, sentence) = tmp_path / "run", FAULTS[fault]
    codes = run_session(2, folder, replace(HASTY, fault=fault), patience=40)
    assert codes[1] == own and codes[0] in (2, 75), said(folder, 0)
    assert sentence in said(folder, 0)


def test_a_long_evaluation_is_no_fault(tmp_path: Path) -> None:
    settings = replace(HASTY, stall_timeout=1.0, evaluate_every=5, evaluation_seconds=3.0)
    assert run_session(2, tmp_path / "run", settings) == [0, 0], said(tmp_path / "run", 0)


def test_a_long_report_between_two_trainings_is_no_fault(tmp_path: Path) -> None:
    settings = replace(HASTY, stall_timeout=1.0, report_seconds=4.0)
    assert run_session(2, tmp_path / "run", settings) == [0, 0], said(tmp_path / "run", 0)
