"""A name for a set of weights."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weight_hash(module: nn.Module) -> str:
    """32 hex digits that change when any parameter or persistent buffer does: name, shape, type or value."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(flat.shape)} {flat.dtype}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
