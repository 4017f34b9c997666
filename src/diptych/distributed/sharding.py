"""Whether a module's weights are spread over processes."""

from __future__ import annotations

from torch import nn
from torch.distributed.fsdp import FSDPModule


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 holds the module or a part of it.

    Every pass through such a part is an exchange between processes, so all of them must make the same passes.
    """
    return any(isinstance(part, FSDPModule) for part in module.modules())
