"""Signals during training are noted once, and end the process the second time."""

from __future__ import annotations

import signal
import threading

import pytest

from diptych.training.interrupt import Interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_stops_at_once(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with Interruption() as interruption:
        noted = [interruption.signal]
        signal.raise_signal(number)
        noted.append(interruption.signal)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert [*noted, interruption.signal] == [None, number, number]
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before


def test_handlers_come_back_when_training_fails() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Interruption():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_other_than_the_first_leaves_signals_alone() -> None:
    found: list[object] = []

    def train() -> None:
        with Interruption() as interruption:
            found.append((interruption.signal, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert found == [(None, before)]
