"""A hash of weights: which model a number is of."""

from __future__ import annotations

import hashlib

from torch import nn


def weights_hash(module: nn.Module) -> str:
    """Of every parameter and buffer in float32, by name; the same on every device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
