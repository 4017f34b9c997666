"""The processes of this run; one process is the default and needs no launcher."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

_PATIENCE = timedelta(days=1)
"""How long a collective may wait. It is `watch.Watch` that ends a run which stands still, and says why."""


@dataclass(frozen=True)
class World:
    """This process among all of them."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


def current() -> World:
    """The world as torch.distributed knows it; a single process when it was not started."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The process group that `torchrun` announces in the environment, or one that is there already.

    One that was joined here is left at the end.
    """
    joins = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if joins:
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    finished = False
    try:
        yield current()
        finished = True
    finally:
        if joins:
            leave(wait=finished)


def leave(wait: bool = True) -> None:
    """Leaves the process group, after everything that refers to it was freed.

    `wait`: for the others to come here too. Gloo's threads end a process (SIGABRT) whose neighbour closes a connection
    that they still read from; who leaves because of an error must not wait.

    A DDP wrapper that is freed later takes the group with it while it holds the interpreter lock, and waits for the
    group's threads, one of which may be waiting for that lock: the process would hang.
    """
    gc.collect()
    if wait:
        dist.barrier()
    dist.destroy_process_group()
