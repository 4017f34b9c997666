"""Randomness as a function of the data, never of the machine.

Every draw (order, crop, caption, mask, noise) is derived from (seed, epoch, sample key) or (seed, step, position in
the global batch) through a cryptographic hash, so it does not depend on ranks, threads or what was drawn before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def hash_to_int(*parts: str | int, bits: int = 63) -> int:
    """A non-negative integer of `bits` bits that depends on every part and on nothing else."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - bits)


def unit_interval(*parts: str | int) -> float:
    """A hash of the parts as a number in [0, 1): for splits and selections by key."""
    return hash_to_int(*parts, bits=53) / float(1 << 53)


@dataclass(frozen=True, slots=True)
class Draw:
    """The random choices of one sample in one epoch."""

    seed: int
    epoch: int
    key: str

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose, so that adding one choice does not move the others."""
        return np.random.Generator(np.random.PCG64(hash_to_int(self.seed, self.epoch, self.key, purpose)))

    def integer(self, purpose: str) -> int:
        """A 63-bit integer: what a batch carries for noise that is drawn on the device."""
        return hash_to_int(self.seed, self.epoch, self.key, purpose)


def normal_like(seeds: Sequence[int], shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal noise [B, *shape], row i a function of seeds[i] alone."""
    rows = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32) for seed in seeds]
    return torch.stack(rows).to(dtype)


def uniform(seeds: Sequence[int], count: int, purpose: str) -> Tensor:
    """Numbers [B, count] in [0, 1); row i a function of seeds[i] alone."""
    generators = [torch.Generator().manual_seed(hash_to_int(seed, purpose)) for seed in seeds]
    return torch.stack([torch.rand(count, generator=generator) for generator in generators])


def permutation(length: int, seed: int, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A shuffle of range(length), the same on every machine for one (seed, epoch)."""
    rng = np.random.Generator(np.random.PCG64(hash_to_int("order", seed, epoch)))
    return rng.permutation(length)


def seed_everything(*parts: str | int) -> None:
    """Sets torch's default generator (initialisation, dropout), from the parts alone."""
    torch.manual_seed(hash_to_int(*parts))
