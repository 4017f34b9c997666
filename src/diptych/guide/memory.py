"""The memory of one device, by part, under one process, DDP or FSDP2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diptych.core.records.footprint import Footprint

Layout = Literal["one", "ddp", "fsdp"]
LAYOUTS: dict[Layout, str] = {"one": "one process", "ddp": "DDP", "fsdp": "FSDP2"}


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        gradients: once all are there.
        exchange: what the wrapper holds: buckets of gradients (DDP), or blocks that are whole for a moment (FSDP2).
        batches: their tensors.
        activations: the most of what the passes make, without gradients.
        loss: over the global batch, with the gathered rows.
        together: the most at once: gradients come while activations go, so it is less than the sum.
    """

    weights: float
    gradients: float
    optimizer: float
    average: float
    exchange: float
    batches: float
    activations: float
    loss: float
    together: float


def memory_of(stage: Footprint, layout: Layout, batch: int, processes: int, micro: int, buffers: int) -> Memory:
    """Of one of so many processes.

    Args:
        batch: global.
        micro: samples put through at once; 0 for all of a share.
        buffers: batches that the device holds at once.
    """
    share = batch / processes
    at_once = micro if 0 < micro < share else share
    kept = processes if layout == "fsdp" else 1
    whole = 3 * stage.unit + 2 * stage.rest  # weights of two blocks and the rest, gradients of one and the rest
    exchange = {"one": 0.0, "ddp": float(stage.gradients), "fsdp": float(min(whole, stage.weights + stage.gradients))}
    loss = _loss(stage, batch, processes, at_once < share)
    activations = [moment.others.at(at_once) for moment in stage.moments]
    most = max(
        moment.gradients / kept + others + (loss if index == 0 else 0.0)
        for index, (moment, others) in enumerate(zip(stage.moments, activations, strict=True))
    )
    fixed = (stage.weights + stage.optimizer + stage.average) / kept
    batches = buffers * stage.batch.at(share)
    return Memory(
        weights=stage.weights / kept,
        gradients=stage.gradients / kept,
        optimizer=stage.optimizer / kept,
        average=stage.average / kept,
        exchange=exchange[layout],
        batches=batches,
        activations=max(activations),
        loss=loss,
        together=fixed + exchange[layout] + batches + most,
    )


def _loss(stage: Footprint, batch: int, processes: int, cut_up: bool) -> float:
    """Round a ring a process holds its own rows and those of one other; otherwise all."""
    if stage.loss is None:
        return 0.0
    ring = stage.loss.ring and processes > 1
    rows = batch / processes if ring else batch
    gathered = stage.loss.row * rows * (1 + ring) if processes > 1 or cut_up else 0.0
    return stage.loss.memory.at(rows) + gathered
