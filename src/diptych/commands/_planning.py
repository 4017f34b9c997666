"""`diptych plan` without its printing: where the footprint of a run meets the table of devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from diptych.capabilities.load import check_device
from diptych.core.errors import ConfigError
from diptych.core.records.footprint import Footprint
from diptych.guide.calibration import (
    Observed,
    Overhead,
    Speed,
    assumed_overhead,
    assumed_speed,
    probed_overhead,
    probed_speed,
)
from diptych.guide.devices import CPU_USE, DEVICES, HOST, Device, Fleet, fleet
from diptych.guide.memory import Layout
from diptych.guide.plan import Machine, StagePlan
from diptych.guide.situation import count
from diptych.training.configured import overridden, recipe
from diptych.training.precision import Precision
from diptych.training.preflight.footprints import footprints
from diptych.training.preflight.machine import matrix_rate, memory_of
from diptych.training.preflight.scratch_run import Tell
from diptych.training.preflight.step_timing import StepTiming, TimingRequest, time_steps
from diptych.training.run import Budget, Run

PARTS = (16, 4)
"""Of a batch a probe puts one of so many parts through."""


def planned(
    name: str, arguments: Sequence[str], gpus: str, samples: str | None, price: float, probe: bool, tell: Tell
) -> list[StagePlan]:
    """A plan for each training stage.

    Raises:
        ConfigError: what is asked for cannot be planned; the sentence says what can.
        DiptychError: what the run itself would be stopped by.
    """
    where = fleet(gpus)
    if price < 0:
        raise ConfigError(f"--price {price:g}: a device costs 0 or more an hour")
    run = _sized(overridden(recipe(name), list(arguments), f"diptych plan {name}"), samples)
    device = _device(where, run)
    run = replace(run, precision=_precision(run, device))
    layout: Layout = run.parallel if where.devices > 1 else "one"
    machine = Machine(where.devices, device, price, layout)
    if probe:
        _require_here(where, run)
    here = run if probe else replace(run, device="cpu")
    stages = footprints(here, Path("runs"), processes=where.devices, tell=tell)
    found = _probed(name, arguments, run, where.devices, tell) if probe else {}
    return [_plan(stage, machine, found.get(stage.stage, [])) for stage in stages]


def _sized(run: Run, samples: str | None) -> Run:
    if samples is None:
        return run
    wanted = count(samples)
    if wanted < 1:
        raise ConfigError(f"--samples {samples}: a run sees at least one")
    return replace(run, budget=Budget(samples=wanted))


def _device(where: Fleet, run: Run) -> Device:
    """Of the table, or this machine."""
    if where.device != HOST:
        return DEVICES[where.device]
    if run.threads:
        torch.set_num_threads(run.threads)
    rates = {precision: matrix_rate(precision) for precision in CPU_USE}
    return Device(HOST, memory_of(torch.device("cpu")), rates, CPU_USE)


def _precision(run: Run, device: Device) -> Precision:
    """What "auto" means there.

    Raises:
        ConfigError: the device does not compute in the one that is asked for.
    """
    if run.precision == "auto":
        return "bf16" if device.rates.get("bf16", 0.0) > device.rates["fp32"] else "fp32"
    device.rate(run.precision)
    return run.precision


def _require_here(where: Fleet, run: Run) -> None:
    """A probe measures the machine that it runs on."""
    here = check_device(run.device)
    if where.device == HOST and here.type == "cpu":
        return
    name = torch.cuda.get_device_name() if here.type == "cuda" else "cpu"
    if where.device.partition("-")[0].lower() not in name.replace(" ", "").lower():
        raise ConfigError(
            f"--probe measures the machine it runs on, a {name} with --device {here}: plan it with --gpus "
            f"1x{HOST}, or probe where there is a {where.device} and say --device cuda"
        )


def _probed(
    name: str, arguments: Sequence[str], run: Run, processes: int, tell: Tell
) -> dict[str, list[Observed]]:  # fmt: skip
    """Stage -> what steps of parts of a device's share took."""
    found: dict[str, list[Observed]] = {}
    more = (*arguments, "--precision", run.precision)
    for parts in PARTS:
        tell(f"a probe with 1 of {parts} parts of the batch of a device")
        for one in time_steps(TimingRequest(name, more, parts * processes)):
            found.setdefault(one.stage, []).append(observed(one))
    return found


def observed(one: StepTiming) -> Observed:
    """What a plan is calibrated by, or compared with."""
    return Observed(one.batch, one.peak - one.idle, one.seconds)


def _plan(stage: Footprint, machine: Machine, found: Sequence[Observed]) -> StagePlan:
    assumed = StagePlan(
        stage, machine, assumed_overhead(machine.device), assumed_speed(machine.device, stage.precision)
    )
    return calibrated(assumed, found) if found else assumed


def calibrated(plan: StagePlan, found: Sequence[Observed]) -> StagePlan:
    """The plan with a probe's overhead and speed in the place of assumed ones."""
    overhead: Overhead = probed_overhead(found, plan.tensors, plan.overhead)
    speed: Speed = probed_speed(found, plan.stage.step_flops)
    return replace(plan, overhead=overhead, speed=speed)
