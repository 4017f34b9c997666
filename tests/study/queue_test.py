"""Which runs are given to an engine, and that it is told to stop."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from diptych.study.config import StudyBudget, StudyRun
from diptych.study.queue import run_all

RUNS = [StudyRun("clip_tiny", seed, "scenes", StudyBudget(samples=8)) for seed in range(3)]


class Noting:
    """An engine that notes what it is given; each of its runs ends with a signal to this process, where one is said."""

    def __init__(self, sent: signal.Signals | None = None) -> None:
        self.sent, self.given, self.stopped = sent, [""], False

    def outcomes(self, folders: Sequence[Path]) -> Iterator[str]:
        self.given = [folder.name for folder in folders]
        for folder in folders:
            if self.sent is not None:
                os.kill(os.getpid(), self.sent)
            yield f"{folder.name} is finished"

    def stop(self) -> None:
        self.stopped = True


def test_what_is_finished_is_not_given_again(tmp_path: Path) -> None:
    (tmp_path / "clip_tiny-1").mkdir()
    (tmp_path / "clip_tiny-1" / "finished.json").write_text("{}")
    engine, told = Noting(), list[str]()
    run_all(RUNS, tmp_path, engine, told.append)
    assert engine.given == ["clip_tiny-0", "clip_tiny-2"] and not engine.stopped
    assert told == [
        "1 of 3 runs are finished already", "2/3 clip_tiny-0 is finished", "3/3 clip_tiny-2 is finished",
    ]  # fmt: skip


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell starts what it puts in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_engine_and_nothing_of_it_stays(sent: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    engine, told = Noting(sent), list[str]()
    with pytest.raises(KeyboardInterrupt):
        run_all(RUNS, tmp_path, engine, told.append)
    assert engine.stopped and told == [] and signal.getsignal(signal.SIGTERM) is before
