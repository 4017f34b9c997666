"""Precision as asked for, and as the device makes it pay."""

from __future__ import annotations

import logging

import pytest
import torch

from diptych.core import half_precision
from diptych.distributed.world import World
from diptych.layers.frozen_pass import exact
from diptych.training import precision
from diptych.training.precision import computes_in_bf16


@pytest.mark.parametrize("pays", [True, False])
def test_auto_is_what_pays_and_a_name_is_kept(
    pays: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "bf16_pays", lambda kind: pays)
    with caplog.at_level(logging.WARNING):
        assert computes_in_bf16("auto", "cpu", World()) is pays
        assert computes_in_bf16("fp32", "cpu", World()) is False
        assert not caplog.records
        assert computes_in_bf16("bf16", "cpu", World()) is True
    assert bool(caplog.records) is not pays


def test_what_pays_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for slower, pays in ((torch.float32, True), (torch.bfloat16, False)):
        half_precision.bf16_pays.cache_clear()
        monkeypatch.setattr(half_precision, "_fastest", lambda kind, device, slower=slower: float(kind == slower))
        assert half_precision.bf16_pays("cpu") is pays
        assert exact("auto", torch.device("cpu")) == ("bfloat16" if pays else "float32")
        assert exact("bfloat16", torch.device("cpu")) == "bfloat16"
    half_precision.bf16_pays.cache_clear()
