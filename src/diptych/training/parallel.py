"""A task on several processes: DDP (every process holds all of it) or FSDP2 (every process holds a share).

Both reach the task through one door, its `__call__`; what differs between them is kept in this file.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from diptych.adapters.four_bit import FourBitLinear
from diptych.core.errors import ConfigError
from diptych.core.task import AnchoredTask, Task
from diptych.distributed.world import World

Parallel = Literal["ddp", "fsdp"]


def wrap(task: Task[Any], world: World, kind: Parallel, device: torch.device) -> nn.Module:
    """The task as the loop calls it; in a single process the task itself.

    FSDP2 shards in place and replaces parameters, so it comes before the optimizer: every item of a list of modules
    (the blocks of a transformer) is a unit of its own, and the rest is another. What runs on gathered rows
    (`AnchoredTask.gathered`) belongs to the rest: a unit gives its weights away after each pass, and the gradients that
    the loss over the global batch takes for itself would not find them.

    Raises:
        ConfigError: FSDP2, and a model that is held in 4 bits, which are no parameters.
    """
    if world.size == 1:
        return task
    if kind == "ddp":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)  # successor: torch 2.13
            # Buffers are functions of the global batch already, so there is nothing to broadcast.
            # A pass of one phase leaves the parameters of the others alone.
            return DistributedDataParallel(task, broadcast_buffers=False, find_unused_parameters=len(task.phases) > 1)
    if any(isinstance(part, FourBitLinear) for part in task.modules()):
        raise ConfigError("FSDP2 would not shard weights that are held in 4 bits: set parallel to ddp")
    mesh = init_device_mesh(device.type, (world.size,))
    whole = {parameter for parameter in task.parameters() if parameter.ndim == 0}
    for module in units(task):
        fully_shard(module, mesh=mesh)
    fully_shard(task, mesh=mesh, ignored_params=whole)
    return task


def units(task: Task[Any]) -> list[nn.Module]:
    """What FSDP2 shards one by one, from the inside outwards: a list may stand in an item of another."""
    gathered = task.gathered if isinstance(task, AnchoredTask) else ()
    kept = {id(part) for name in gathered for part in task.get_submodule(name).modules()}
    lists = [some for some in task.modules() if isinstance(some, nn.ModuleList)]
    return [unit for some in reversed(lists) for unit in some if id(unit) not in kept]


def unwrap(wrapped: nn.Module) -> Task[Any]:
    """The task inside its wrapper."""
    task = wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped
    assert isinstance(task, Task)
    return task


@contextmanager
def no_sync(wrapped: nn.Module) -> Iterator[None]:
    """Passes inside it leave gradients where they are, to be exchanged by a later one."""
    if isinstance(wrapped, DistributedDataParallel):
        with wrapped.no_sync():
            yield
    elif isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            wrapped.set_requires_gradient_sync(True)
    else:
        yield


def average_unsharded(wrapped: nn.Module) -> None:
    """Averages the gradients of what FSDP2 leaves whole on every process: scalars, such as a temperature."""
    if isinstance(wrapped, FSDPModule):
        for parameter in wrapped.parameters():
            if parameter.grad is not None and not isinstance(parameter, DTensor):
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, however it is sharded; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
