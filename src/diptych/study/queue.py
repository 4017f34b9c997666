"""The runs of a study, each in a process of its own, some at a time; one that is finished is not repeated."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from types import FrameType
from typing import Protocol

from diptych.core.storage import storage_errors
from diptych.study.config import StudyRun, claim
from diptych.study.one_run import FAILED, FINISHED

LOG = "log.txt"

Tell = Callable[[str], None]


class Engine(Protocol):
    """Where the runs of a study are done: processes of this machine, or machines of a cluster."""

    def outcomes(self, folders: Sequence[Path]) -> Iterator[str]:
        """Does the runs of these folders, some at a time: a sentence of each, as it ends."""
        ...

    def stop(self) -> None:
        """Interrupts what is going on, and waits until it has saved."""
        ...


def run_all(runs: Sequence[StudyRun], out: Path, engine: Engine, tell: Tell) -> None:
    """Does what is not finished yet.

    Args:
        tell: is told what ends.

    Raises:
        ConfigError: a folder holds a run of another study, or the engine cannot do this study; nothing is begun then.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the runs that were going on have saved what they had.
    """
    for run in runs:
        claim(run, out / run.name)
    waiting = [out / run.name for run in runs if not (out / run.name / FINISHED).is_file()]
    if finished := len(runs) - len(waiting):
        tell(f"{finished} of {len(runs)} runs are finished already")
    if not waiting:
        return
    try:
        with _ended_as_by_hand():
            for number, outcome in enumerate(engine.outcomes(waiting), finished + 1):
                tell(f"{number}/{len(runs)} {outcome}")
    except BaseException:
        engine.stop()
        raise


@contextmanager
def _ended_as_by_hand() -> Iterator[None]:
    """SIGTERM, from a queue of jobs or `kill`, is as Ctrl-C: no process of a run may be left behind alone."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def begin(folder: Path, environment: dict[str, str] | None = None) -> Popen[bytes]:
    """The process of a run, in a session of its own: what it prints goes to the folder's log.

    Args:
        environment: beside that of this process.

    Raises:
        StorageError: the log cannot be written.
    """
    with storage_errors(folder), (folder / LOG).open("a", encoding="utf-8") as log:
        return Popen(
            [sys.executable, "-m", "diptych.study.one_run", str(folder)],
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def outcome(folder: Path, code: int) -> str:
    """What came of a run whose process ended with this code."""
    if code == 0:
        return f"{folder.name} is finished"
    if (folder / FAILED).is_file():
        return f"{folder.name} failed: {(folder / LOG).read_text(encoding='utf-8').rstrip().splitlines()[-1]}"
    return f"{folder.name} ended with code {code}: {folder / LOG} says why"
