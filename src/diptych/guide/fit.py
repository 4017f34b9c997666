"""Whether a stage fits the memory of a device, by how much it does not, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from diptych.guide.devices import DEVICES, GB
from diptych.guide.memory import LAYOUTS
from diptych.guide.plan import StagePlan


def shortage(plan: StagePlan) -> str:
    """A sentence for a stage that does not fit as it is planned; "" for one that does."""
    machine = plan.machine
    missing = plan.held(machine.layout).value - machine.device.memory
    if missing <= 0:
        return ""
    needed = (machine.device.memory + missing) / GB
    how = LAYOUTS[machine.layout]
    helps = list(_helps(plan))
    advice = f"; {', or '.join(helps)}" if helps else "; nothing tried here is enough: take a smaller model or batch"
    return (
        f"stage '{plan.stage.stage}' does not fit: {needed:,.1f} GB under {how}, {missing / GB:,.1f} GB more than the "
        f"{machine.device.memory / GB:,.0f} GB of {machine.device.name}{advice}"
    )


def _helps(plan: StagePlan) -> Iterator[str]:
    """What would be enough by itself."""
    machine, stage = plan.machine, plan.stage
    room, layout = machine.device.memory, machine.layout
    if machine.count > 1 and layout != "fsdp" and (held := plan.held("fsdp").value) <= room:
        yield f"--parallel fsdp takes {held / GB:,.1f} GB"
    if stage.divisible and (micro := _largest_micro(plan)):
        yield f"--micro_batch {micro} takes {plan.held(layout, micro).value / GB:,.1f} GB"
    needed = plan.held(layout).value
    if larger := [one for one in DEVICES.values() if one.memory >= needed and one.memory > room]:
        yield f"it fits {min(larger, key=lambda one: one.memory).name}"


def _largest_micro(plan: StagePlan) -> int:
    """The largest power of two that fits; 0 where none does."""
    processes = 1 if plan.machine.layout == "one" else plan.machine.count
    micro = plan.stage.batch_size // processes
    micro = 1 << max(micro.bit_length() - 1, 0)
    while micro and plan.held(plan.machine.layout, micro).value > plan.machine.device.memory:
        micro //= 2
    return micro
