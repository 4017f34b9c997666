"""A linear map for a few rows on a CPU, which is what decoding is made of.

A token goes through every weight once, so its time is that of reading the weights. `torch` keeps a weight as outputs by
inputs, in which order a product with few rows reads it at about half the speed of the other one. So a second copy is
kept, the other way round, for as long as the weight does not change.

N rows, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor, cat, is_grad_enabled, nn

ROWS = 64
"""The most rows for which the copy is read."""
NUMBERS = 4 << 20
"""The most numbers of a weight that is copied: larger ones are not worth the memory."""


class TurnedCopy:
    """Weights one under another, the other way round, copied again where one of them was changed since.

    Fused optimizers change a weight without counting it as a change. So whoever owns a copy drops it whenever it is
    used with gradients or put into training or evaluation mode.
    """

    def __init__(self) -> None:
        self._held: tuple[tuple[tuple[int, int], ...], Tensor] | None = None

    def of(self, *weights_OI: Tensor) -> Tensor:
        """[I, O], of all their outputs."""
        now = tuple((weight.data_ptr(), weight._version) for weight in weights_OI)
        if self._held is None or self._held[0] != now:
            self._held = (now, cat([weight.detach() for weight in weights_OI]).t().contiguous())
        return self._held[1]

    def drop(self) -> None:
        """The next call copies again."""
        self._held = None

    def __getstate__(self) -> dict[str, object]:
        """Without the copy, which is made again where it is needed."""
        return {"_held": None}


class FewRowsLinear(nn.Linear):
    """nn.Linear with the same parameters; faster without gradients, on a CPU, where few rows go through it."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self._copy = TurnedCopy()

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        if is_grad_enabled():
            self._copy.drop()
            return super().forward(x)
        if x.numel() > ROWS * self.in_features or not self.turns():
            return super().forward(x)
        out = x @ self.turned()
        return out if self.bias is None else out + self.bias

    def train(self, mode: bool = True) -> Self:
        self._copy.drop()
        return super().train(mode)

    def turns(self) -> bool:
        """Whether the weight is one that is copied."""
        weight = self.weight
        return weight.device.type == "cpu" and weight.numel() <= NUMBERS and not weight.is_inference()

    def turned(self) -> Tensor:
        """The weight [I, O]."""
        return self._copy.of(self.weight)
