"""What of a model is trained and what is not."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from torch import nn

from diptych.adapters.four_bit import FourBitLinear

M = TypeVar("M", bound=nn.Module)


class ParameterCounts(NamedTuple):
    """Numbers of single weights."""

    trained: int
    frozen: int

    @property
    def total(self) -> int:
        return self.trained + self.frozen

    def __str__(self) -> str:
        share = self.trained / max(self.total, 1)
        return (
            f"{self.trained:,} trained, {self.frozen:,} frozen, {self.total:,} parameters in all ({share:.2%} trained)"
        )


def freeze(module: M) -> M:
    """The module in evaluation mode, with no gradient for any of its parameters."""
    return module.eval().requires_grad_(False)


def parameter_counts(module: nn.Module) -> ParameterCounts:
    """By whether a parameter requires a gradient; weights that are held in 4 bits are frozen ones."""
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    held = sum(part.weights for part in module.modules() if isinstance(part, FourBitLinear))
    return ParameterCounts(trained, sum(p.numel() for p in module.parameters()) - trained + held)
