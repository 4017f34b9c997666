"""Whose fault it is when a run on several processes stands still, and an end to it within a bounded time.

Every process says in the store that all of them share how far it is and, once in a while, that it is alive. A process
that has waited too long looks at what the others say, names those that are gone or hang, and ends. Collectives
themselves may wait for ever: a long evaluation on the main process is no reason to stop.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Self

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from diptych.core.errors import ProcessLost
from diptych.distributed.world import World

WAITING_FOR_DATA = "waiting for the data"
COMPUTING = "computing"
_PULSE = 1.0
"""Seconds between two signs of life."""
_SILENCE = 3.5
"""Seconds without one after which a process that broke a collective counts as gone."""
_EXIT_CODE = 75
"""EX_TEMPFAIL: try again later."""
_ON = "the last checkpoint is whole: go on with --resume latest, on any number of processes"


@dataclass(frozen=True)
class Report:
    """What a process says of itself.

    Attributes:
        step: that it works on.
        doing: in words.
        waits: whether it may take as long as it likes (it evaluates or saves while others wait for it).
        beat: counts its signs of life.
        fault: the sentence with which it ended; "" while it runs.
    """

    step: int = 0
    doing: str = "starting"
    waits: bool = True
    beat: int = 0
    fault: str = ""


class Watch:
    """Around all that a process does together with others.

    Args:
        timeout: seconds that a process may stand still.
    """

    def __init__(self, world: World, timeout: float) -> None:
        self._world, self._timeout = world, timeout
        self._report, self._moved = Report(), time.monotonic()
        self._lock = threading.Lock()
        self._heard: dict[int, tuple[int, float]] = {}
        self._ended = threading.Event()
        self._store: Any = None

    def __enter__(self) -> Self:
        if self._world.size > 1:
            store: Any = _get_default_store()
            self._store = store.clone()  # a connection of its own: the main thread may wait in the other one
            self._publish()
            threading.Thread(target=self._watch, name="watch", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is None:
            return
        lost = ""
        if isinstance(error, RuntimeError | ConnectionError):  # how a lost peer shows in a collective, and much else
            with self.busy("asking why a pass failed"):
                lost = self._fault_of_others()
        self._ended.set()
        if lost:
            self._publish(fault=lost)
            raise ProcessLost(lost) from error
        if error is not None:
            self._publish(fault=f"process {self._world.rank} stopped: {_first_line(error)}")

    def at(self, step: int, doing: str) -> None:
        """Says that this process goes on: it has come to `step` and does `doing`."""
        with self._lock:
            self._report, self._moved = replace(self._report, step=step, doing=doing, waits=False), time.monotonic()

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """A block that may take as long as it likes."""
        with self._lock:
            before = self._report
            self._report = replace(before, doing=doing, waits=True)
        if self._store is not None:
            self._publish()
        try:
            yield
        finally:
            with self._lock:
                self._report, self._moved = replace(before, beat=self._report.beat), time.monotonic()

    def _publish(self, fault: str = "") -> None:
        with self._lock:
            self._report = replace(self._report, beat=self._report.beat + 1, fault=fault)
        with suppress(dist.DistError, RuntimeError):  # whoever keeps the store may be gone: collectives say so
            self._store.set(_key(self._world.rank), json.dumps(asdict(self._report)))

    def _watch(self) -> None:
        """The thread: signs of life, and a look around when this process stands still."""
        while not self._ended.wait(min(self._timeout / 5, _PULSE)):
            self._publish()
            reports = self._reports()
            still = time.monotonic() - self._moved
            if still > self._timeout and not self._report.waits and (culprits := self._culprits(reports)):
                _end_process(f"no step for {still:.0f} s (stall_timeout {self._timeout:g}): {culprits}; {_ON}")

    def _reports(self) -> dict[int, Report]:
        """What the others said last; keeps since when they say nothing new."""
        found = {}
        for rank in set(range(self._world.size)) - {self._world.rank}:
            with suppress(dist.DistError, RuntimeError):
                if self._store.check([_key(rank)]):
                    found[rank] = Report(**json.loads(self._store.get(_key(rank))))
                    if self._heard.get(rank, (-1, 0.0))[0] != found[rank].beat:
                        self._heard[rank] = (found[rank].beat, time.monotonic())
        return found

    def _silent(self, seconds: float) -> list[int]:
        """The processes that have given no sign of life for so long."""
        now = time.monotonic()
        return [rank for rank, (_, heard) in sorted(self._heard.items()) if now - heard > seconds]

    def _culprits(self, reports: dict[int, Report]) -> str:
        """Why this process waits; nothing where another one is busy and alive."""
        silent = self._silent(self._timeout)
        lost = [f"process {rank} gives no sign of life (killed, or frozen)" for rank in silent]
        lost += [report.fault for rank, report in sorted(reports.items()) if report.fault and rank not in silent]
        if lost or any(report.waits for report in reports.values()):
            return "; ".join(lost)
        everyone = {**reports, self._world.rank: self._report}
        late = [
            f"process {rank} is still {everyone[rank].doing} in step {everyone[rank].step}"
            for rank in _behind(everyone)
        ]
        return "; ".join(late)

    def _fault_of_others(self) -> str:
        """Which other process broke a collective and why, as far as it said so before it ended; "" when none did."""
        ends = time.monotonic() + 2 * _SILENCE
        while time.monotonic() < ends:
            if faults := [report.fault for report in self._reports().values() if report.fault]:
                return faults[0]
            if silent := self._silent(_SILENCE):
                who = " and ".join(f"process {rank}" for rank in silent)
                return f"{who} ended without a word (killed, out of memory, or the machine is lost); {_ON}"
            time.sleep(_PULSE / 10)
        return ""


def _behind(reports: dict[int, Report]) -> list[int]:
    """Those that the others wait for: at the earliest step, and there still waiting for data if any are."""
    first = min(report.step for report in reports.values())
    late = [rank for rank, report in sorted(reports.items()) if report.step == first]
    return [rank for rank in late if reports[rank].doing == WAITING_FOR_DATA] or late


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _key(rank: int) -> str:
    return f"diptych/watch/{rank}"


def _end_process(sentence: str) -> None:
    """The main thread may hang in a collective, so nothing gentler than the end of the process is sure to work."""
    print(f"diptych: {sentence}", file=sys.stderr, flush=True)
    os._exit(_EXIT_CODE)
