"""The runs of a study, each in a process of its own, some at a time; one that is finished is not repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from diptych.core.storage import storage_errors
from diptych.study.config import StudyRun, claim
from diptych.study.one_run import FAILED, FINISHED

LOG = "log.txt"

Tell = Callable[[str], None]


def run_all(runs: Sequence[StudyRun], out: Path, processes: int, tell: Tell, gpus: int = 0) -> None:
    """Does what is not finished yet.

    Args:
        processes: runs at a time.
        tell: is told what begins and what ends.
        gpus: of this machine; each of the runs at a time has one of them to itself.

    Raises:
        ConfigError: a folder holds a run of another study; nothing is begun then.
        KeyboardInterrupt: Ctrl-C came; the runs that were going on have saved what they had.
    """
    for run in runs:
        claim(run, out / run.name)
    waiting = [run for run in runs if not (out / run.name / FINISHED).is_file()]
    if finished := len(runs) - len(waiting):
        tell(f"{finished} of {len(runs)} runs are finished already")
    places = Places(processes, gpus, tell)
    with ThreadPoolExecutor(processes) as pool:
        begun = {pool.submit(places.run, out / run.name): run for run in waiting}
        try:
            for number, future in enumerate(as_completed(begun), finished + 1):
                tell(f"{number}/{len(runs)} {_outcome(out / begun[future].name, future.result())}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            places.stop()
            raise


class Places:
    """So many runs at a time, each in a process with a session of its own: Ctrl-C comes to it from here, once."""

    def __init__(self, count: int, gpus: int, tell: Tell) -> None:
        self._free: SimpleQueue[int] = SimpleQueue()
        for place in range(count):
            self._free.put(place)
        self._gpus, self._tell = gpus, tell
        self._going: dict[int, subprocess.Popen[bytes]] = {}
        self._stopped = False

    def run(self, folder: Path) -> int:
        """Waits for a free place, then for the run's process; its exit code."""
        place = self._free.get()
        try:
            if self._stopped:
                return 130
            self._tell(f"{folder.name} begins")
            with storage_errors(folder), (folder / LOG).open("a", encoding="utf-8") as log:
                self._going[place] = subprocess.Popen(
                    [sys.executable, "-m", "diptych.study.one_run", str(folder)],
                    stdout=log,
                    stderr=log,
                    env=self._environment(place),
                    start_new_session=True,
                )
            return self._going[place].wait()
        finally:
            self._free.put(place)

    def stop(self) -> None:
        """Interrupts what is going on, and waits until it has saved."""
        self._stopped = True
        for process in self._going.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._going.values():
            process.wait()

    def _environment(self, place: int) -> dict[str, str]:
        return {**os.environ, **({"CUDA_VISIBLE_DEVICES": str(place % self._gpus)} if self._gpus else {})}


def _outcome(folder: Path, code: int) -> str:
    if code == 0:
        return f"{folder.name} is finished"
    if (folder / FAILED).is_file():
        return f"{folder.name} failed: {(folder / LOG).read_text(encoding='utf-8').rstrip().splitlines()[-1]}"
    return f"{folder.name} ended with code {code}: {folder / LOG} says why"
