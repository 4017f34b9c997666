"""SIGTERM and Ctrl-C during training: save first, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import torch

from diptych.distributed.gather import sum_over_ranks
from diptych.distributed.world import current

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Notes a signal, for the loop to look at between two steps; a second Ctrl-C stops at once.

    Attributes:
        signal: the one that came; None while none has.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def agreed(self, device: torch.device) -> signal.Signals | None:
        """The signal that any process got: all of them stop behind the same step, or one would wait for ever."""
        if current().size == 1:
            return self.signal
        noted = torch.tensor([float(self.signal is number) for number in _SIGNALS], device=device)
        counts = sum_over_ranks(noted).tolist()
        return next((number for number, count in zip(_SIGNALS, counts, strict=True) if count), None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
