"""The runs of a study as processes of this machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from subprocess import Popen

from diptych.study.queue import Tell, begin, outcome


class Local:
    """So many runs at a time (an `Engine`): Ctrl-C comes to their processes from here, once."""

    def __init__(self, count: int, tell: Tell, gpus: int = 0) -> None:
        """
        Args:
            tell: is told what begins.
            gpus: of this machine; each of the runs at a time has one of them to itself.
        """
        self._free: SimpleQueue[int] = SimpleQueue()
        for place in range(count):
            self._free.put(place)
        self._count, self._gpus, self._tell = count, gpus, tell
        self._going: dict[int, Popen[bytes]] = {}
        self._stopped = False

    def outcomes(self, folders: Sequence[Path]) -> Iterator[str]:
        """Does the runs: a sentence of each, as it ends."""
        pool = ThreadPoolExecutor(self._count)
        try:
            begun = {pool.submit(self._run, folder): folder for folder in folders}
            for future in as_completed(begun):
                yield outcome(begun[future], future.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, folder: Path) -> int:
        """Waits for a free place, then for the run's process; its exit code."""
        place = self._free.get()
        try:
            if self._stopped:
                return 130
            self._tell(f"{folder.name} begins")
            self._going[place] = begin(folder, self._environment(place))
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
        return {"CUDA_VISIBLE_DEVICES": str(place % self._gpus)} if self._gpus else {}
