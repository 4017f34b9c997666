"""Training time and rates, without evaluation and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """A stopwatch that can be paused, with samples and waiting since the last look."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._started = time.perf_counter()
        self._samples = 0
        self._wait = self._wait_seen = 0.0
        self._seconds_seen = seconds

    @property
    def seconds(self) -> float:
        """Of training, over all sessions."""
        return self._before + time.perf_counter() - self._started

    def count(self, samples: int, wait: float) -> None:
        """Notes a step.

        Args:
            wait: seconds that the loader has been waited for since the session began.
        """
        self._samples += samples
        self._wait = wait

    def rates(self) -> tuple[float, float]:
        """Samples a second, and the share of time spent waiting for data, since the last call."""
        seconds = max(self.seconds - self._seconds_seen, 1e-9)
        rate, share = self._samples / seconds, (self._wait - self._wait_seen) / seconds
        self._samples, self._wait_seen, self._seconds_seen = 0, self._wait, self.seconds
        return rate, min(max(share, 0.0), 1.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the block's time out."""
        stopped = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - stopped
