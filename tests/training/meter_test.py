"""Rates and waiting against a clock that the test turns."""

from __future__ import annotations

import time

import pytest

from diptych.training.meter import Meter


class Clock:
    """Stands where it is put."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "perf_counter", found)
    return found


def test_rates_are_those_since_the_last_look(clock: Clock) -> None:
    meter = Meter()
    clock.now += 2
    meter.count(64, wait=0.5)
    clock.now += 2
    meter.count(64, wait=1.0)
    assert meter.rates() == (32.0, 0.25)
    clock.now += 1
    meter.count(64, wait=1.75)  # waiting is counted since the session began
    assert meter.rates() == (64.0, 0.75)
    assert meter.seconds == 5.0


def test_measuring_and_saving_are_no_training_time(clock: Clock) -> None:
    meter = Meter()
    clock.now += 1
    with meter.paused():
        clock.now += 50
    clock.now += 1
    meter.count(10, wait=0.0)
    assert meter.rates() == (5.0, 0.0)
    with pytest.raises(KeyError), meter.paused():
        clock.now += 7
        raise KeyError
    assert meter.seconds == 2.0


def test_a_resumed_run_goes_on_counting_its_seconds_but_not_its_rates(clock: Clock) -> None:
    meter = Meter(60.0)
    clock.now += 4
    meter.count(8, wait=1.0)
    assert meter.seconds == 64.0
    assert meter.rates() == (2.0, 0.25)


def test_the_share_of_waiting_is_a_share(clock: Clock) -> None:
    meter = Meter()
    clock.now += 1
    meter.count(8, wait=3.0)  # a wait that began during a pause
    assert meter.rates() == (8.0, 1.0)
    assert meter.rates()[1] == 0.0
