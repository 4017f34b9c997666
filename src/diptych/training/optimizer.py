"""AdamW, its parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.optim import AdamW, Optimizer

from diptych.core.errors import ConfigError
from diptych.core.task import ParamGroup


@dataclass(frozen=True)
class AdamWConfig:
    """Loshchilov and Hutter 2017, arXiv 1711.05101; defaults as CLIP uses it for vision transformers.

    Attributes:
        lr: the peak learning rate.
        weight_decay: for matrices only; gains, biases and scalars are never decayed.
    """

    lr: float = 5e-4
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    weight_decay: float = 0.2

    def build(self, groups: Sequence[ParamGroup]) -> Optimizer:
        """The optimizer of these groups, with the fused kernel (one pass over the parameters, on CPU and GPU)."""
        if not any(group.parameters for group in groups):
            raise ConfigError("nothing to train: every parameter is frozen")
        plain = [
            {
                "params": list(group.parameters.values()),
                "weight_decay": self.weight_decay if group.decay else 0.0,
                "lr_scale": group.lr_scale,
            }
            for group in groups
        ]
        return AdamW(plain, lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True)


@dataclass(frozen=True)
class WarmupCosine:
    """A linear rise to the peak, then half a cosine down.

    Attributes:
        warmup: steps of the rise.
        final: the share of the peak that is left at the end.
    """

    warmup: int = 100
    final: float = 0.0

    def factor(self, step: int, steps: int) -> float:
        """The share of the peak for step 0 .. steps - 1; above zero from the first step on."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        progress = (step - self.warmup) / max(steps - self.warmup, 1)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the rate of every group, times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def clip_gradients(optimizer: Optimizer, largest: float | None) -> torch.Tensor:
    """Scales the gradients down to a global norm of at most `largest`; returns the norm before."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, math.inf if largest is None else largest)
