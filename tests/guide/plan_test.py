"""The arithmetic of a plan by hand: memory under each way to share a model, hours, money, what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diptych.core.errors import ConfigError
from diptych.core.records.footprint import Footprint, GlobalCost, Line, Moment
from diptych.guide.calibration import (
    Interval,
    Observed,
    Overhead,
    Speed,
    assumed_overhead,
    assumed_speed,
    probed_overhead,
    probed_speed,
)
from diptych.guide.devices import DEVICES, GB, HOST, Device, Fleet, fleet
from diptych.guide.fit import shortage
from diptych.guide.memory import Layout, memory_of
from diptych.guide.plan import Machine, StagePlan, totals

STAGE = Footprint(
    stage="train",
    parameters=1000,
    trained=800,
    batch_size=64,
    micro_batch=0,
    steps=100,
    precision="fp32",
    weights=4000,
    gradients=3200,
    optimizer=6400,
    average=0,
    unit=800,
    rest=400,
    moments=(
        Moment(0, Line(1000.0, 500.0)),
        Moment(1600, Line(900.0, 300.0)),
        Moment(3200, Line(100.0, 10.0)),
    ),
    batch=Line(0.0, 20.0),
    buffers=4,
    flops=Line(0.0, 1e9),
    operations=2000,
    loss=GlobalCost(((32, 32 * 10 + 32**2 * 7), (64, 64 * 10 + 64**2 * 7)), Line(0.0, 50.0), 16, False, 64),
    divisible=True,
    checkpoint=14_400,
    kept=3,
    source="scenes",
    samples=500,
    packed={"jpeg": 100.0},
)


def plan(count: int = 1, layout: Layout = "one", device: str = "A100", **changes: object) -> StagePlan:
    machine = Machine(count, DEVICES[device], 2.0, layout)
    stage = replace(STAGE, **changes)  # type: ignore[arg-type]
    return StagePlan(stage, machine, assumed_overhead(machine.device), assumed_speed(machine.device, "fp32"))


def test_memory_of_one_process() -> None:
    found = memory_of(STAGE, "one", 64, 1, 0, 4)
    assert (found.weights, found.gradients, found.optimizer, found.exchange) == (4000, 3200, 6400, 0)
    assert (found.batches, found.activations, found.loss) == (4 * 64 * 20, 33_000, 50 * 64)
    # The first moment, with the loss, is the most; at 4 samples it is the second, when half of the gradients are there.
    assert found.together == 10_400 + 5120 + 33_000 + 3200
    few = memory_of(replace(STAGE, loss=None), "one", 1, 1, 0, 0)
    assert few.together == 10_400 + max(1500, 1600 + 1200, 3200 + 110)


def test_memory_on_several_devices() -> None:
    ddp, fsdp = (memory_of(STAGE, layout, 64, 4, 0, 1) for layout in ("ddp", "fsdp"))
    rows = 64 * 16
    assert (ddp.weights, ddp.exchange, ddp.loss) == (4000, 3200, 50 * 64 + rows)
    assert ddp.together == 10_400 + 3200 + 16 * 20 + (1000 + 500 * 16) + 50 * 64 + rows
    assert (fsdp.weights, fsdp.gradients, fsdp.optimizer) == (1000, 800, 1600)
    assert fsdp.exchange == 3 * 800 + 2 * 400
    ring = replace(STAGE, loss=replace(STAGE.loss, ring=True))  # type: ignore[type-var]
    assert memory_of(ring, "ddp", 64, 4, 0, 1).loss == 50 * 16 + 2 * 16 * 16


def test_micro_batches_hold_fewer_activations_and_all_rows() -> None:
    found = memory_of(STAGE, "one", 64, 1, 8, 1)
    assert (found.activations, found.loss, found.batches) == (1000 + 500 * 8, 50 * 64 + 64 * 16, 64 * 20)


def test_operations_of_the_loss_are_every_devices_own_or_shared() -> None:
    assert STAGE.loss is not None and STAGE.loss.flops_at(128) == 128 * 10 + 128**2 * 7
    of_loss = 64 * 10 + 64**2 * 7
    assert STAGE.step_flops(64, 4) == 64e9 + 4 * of_loss
    assert replace(STAGE, loss=replace(STAGE.loss, ring=True)).step_flops(64, 4) == 64e9 + of_loss
    strips = GlobalCost(((32, 32**2 * 7), (64, 64**2 * 10)), Line(0.0, 1.0), 16, False, 64)
    assert strips.flops_at(128) == 128**2 * 10


def test_hours_and_money() -> None:
    found = plan(4, "ddp", batch_size=4096, loss=None, operations=0)
    entries = {entry.name: entry for entry in found.entries() if entry.about == "compute" and entry.unit != "FLOP"}
    peak, use = 19.5e12, DEVICES["A100"].use["fp32"]
    hours = 100 * 4096 * 1e9 / (4 * peak * use.typical) / 3600
    assert entries["the stage"].value == pytest.approx(hours)
    assert entries["the stage"].low == pytest.approx(hours * use.typical / use.high)
    assert entries["money"].value == pytest.approx(8 * hours) == 2 * entries["device hours"].value
    assert entries["money"].high == pytest.approx(8 * hours * use.typical / use.low)
    summed = {entry.name: entry.value for entry in totals([found, found])}
    assert summed["hours"] == pytest.approx(2 * hours) and summed["money"] == pytest.approx(16 * hours)


def test_small_models_wait_for_their_kernels() -> None:
    """2,000 kernels take 16 ms, however little they compute."""
    assert plan(flops=Line(0.0, 1.0), loss=None).hours.value * 3600 == pytest.approx(100 * 2000 * 8e-6)
    cut = plan(flops=Line(0.0, 1.0), loss=None, micro_batch=16)
    assert cut.hours.value * 3600 == pytest.approx(4 * 100 * 2000 * 8e-6)


def test_every_number_says_how_it_was_had() -> None:
    entries = plan(8, "fsdp").entries()
    assert {entry.about for entry in entries} == {"parameters", "compute", "memory of a device", "storage"}
    assert all(entry.why for entry in entries)
    assert {entry.under for entry in entries} == {"", "one process", "DDP", "FSDP2"}
    estimated = [entry for entry in entries if entry.low is not None]
    assert len(estimated) == 4 + 3
    assert all(entry.low <= entry.value <= entry.high for entry in estimated)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8xA100", Fleet(8, "A100")),
        ("h100", Fleet(1, "H100")),
        ("2 x RTX 4090", Fleet(2, "RTX4090")),
        ("NVIDIA A100-40GB", Fleet(1, "A100-40GB")),
        ("1xcpu", Fleet(1, HOST)),
    ],
)
def test_devices_as_people_write_them(text: str, found: Fleet) -> None:
    assert fleet(text) == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("8xB100", "unknown device 'B100': known are A100, A100-40GB, H100, H200, L40S, L4, RTX4090, T4, cpu"),
        ("0xA100", "write how many and which"),
        ("", "write how many and which"),
    ],
)
def test_devices_that_are_not_known(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fleet(text)
    assert sentence in str(caught.value)


def test_a_device_without_bf16_says_so() -> None:
    with pytest.raises(ConfigError, match="T4 does not compute in bf16: plan with --precision fp32"):
        DEVICES["T4"].rate("bf16")


def test_what_does_not_fit_and_what_would_help() -> None:
    large = {"weights": 8 * GB, "gradients": 8 * GB, "optimizer": 16 * GB, "unit": GB // 4, "rest": GB // 4}
    small = replace(STAGE, moments=(Moment(0, Line(0.0, 1000.0)), Moment(8 * GB, Line(0.0, 0.0))))
    assert shortage(plan()) == ""
    said = shortage(plan(8, "ddp", "T4", moments=small.moments, **large))
    assert said.startswith("stage 'train' does not fit: 44.2 GB under DDP, 28.2 GB more than the 16 GB of T4; ")
    # (8 + 16) / 8 of weights and optimizer, 1 of gradients, 1.25 of whole blocks, times 1.08, and 1 for CUDA.
    assert "--parallel fsdp takes 6.7 GB" in said and said.endswith("or it fits L40S")  # 48 GB, the least
    alone = shortage(plan(1, "one", "T4", moments=[Moment(0, Line(0.0, GB))], batch_size=64))
    assert "under one process" in alone and "--micro_batch 8 takes" in alone and "--parallel" not in alone
    whole = shortage(plan(1, "one", "T4", moments=[Moment(0, Line(0.0, 4 * GB))], divisible=False))
    assert whole.endswith("nothing tried here is enough: take a smaller model or batch")


def test_a_probe_replaces_what_is_assumed() -> None:
    """The process holds 50 MB and 1.2 times its tensors; a step computes at 40 GFLOP/s."""
    found = [Observed(batch, int(50e6 + 1.2e6 * batch), batch * 1e9 / 40e9) for batch in (64, 16)]
    held = probed_overhead(found, lambda batch: 1e6 * batch, assuming(1.2))
    assert held.fixed.value == pytest.approx(50e6) and held.factor.value == pytest.approx(1.2)
    assert held.of(256e6) == pytest.approx(Interval(0.85 * 357.2e6, 357.2e6, 1.15 * 357.2e6))
    speed = probed_speed(found, STAGE.flops.at)
    assert speed.rate.value == pytest.approx(40e9)
    assert speed.seconds(80e9, 10**9) == pytest.approx(Interval(2 / 1.25, 2.0, 2 / 0.75))


def test_a_probe_that_grows_less_than_its_tensors_is_not_believed() -> None:
    found = [Observed(16, 400_000_000, 1.0), Observed(64, 410_000_000, 2.0)]
    held = probed_overhead(found, lambda batch: 1e6 * batch, assuming(1.0))
    assert (held.factor.value, held.fixed.value) == (1.0, 346e6)


def test_what_a_probe_says_of_the_allocator_counts_half() -> None:
    """Twice the tensors in the probe, which is beyond what allocators lose: 1.8 is taken, and 1.4 assumed."""
    found = [Observed(batch, int(2e6 * batch), 1.0) for batch in (16, 64)]
    held = probed_overhead(found, lambda batch: 1e6 * batch, assuming(1.4))
    assert held.factor.value == pytest.approx(1.6)
    assert held.of(64e6).value == pytest.approx(128e6)  # what was measured with the larger batch stays


def assuming(factor: float) -> Overhead:
    return Overhead(Interval(0.0, 0.0, 0.0), Interval(factor, factor, factor), "assumed")


def test_the_host_and_others_are_calibrated_apart() -> None:
    here = Device(HOST, 16 * GB, {"fp32": 1e11}, {"fp32": DEVICES["A100"].use["fp32"]})
    assert isinstance(assumed_overhead(here), Overhead) and assumed_overhead(here) != assumed_overhead(DEVICES["A100"])
    speed = assumed_speed(here, "fp32")
    assert isinstance(speed, Speed) and speed.launch == Interval(0.0, 0.0, 0.0) and "product of matrices" in speed.why
