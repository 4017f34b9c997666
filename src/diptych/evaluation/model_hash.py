"""Which model a result is of."""

from __future__ import annotations

import hashlib

from torch import nn


def model_hash(module: nn.Module) -> str:
    """A hash of every parameter and buffer, by name and as float32: the same on every device, whatever is stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
