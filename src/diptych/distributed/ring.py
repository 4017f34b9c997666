"""A ring of processes: each hands its rows to the one before it and takes those of the one behind it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from diptych.distributed.world import current


def shifted(rows: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The rows of the next process in the ring; after as many shifts as there are processes, one's own are back.

    Args:
        rows: name -> [B, ...], the block that this process holds; only B may differ between processes.
        count: how many rows the block that comes holds.
    """
    world = current()
    to, source = (world.rank - 1) % world.size, (world.rank + 1) % world.size
    received, exchange = {}, []
    for name, tensor in rows.items():
        received[name] = torch.empty(count, *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)
        exchange.append(dist.P2POp(dist.isend, tensor.contiguous(), to))
        exchange.append(dist.P2POp(dist.irecv, received[name], source))
    for work in dist.batch_isend_irecv(exchange):
        work.wait()
    return received
