"""A linear map for a few rows on a CPU, which is what decoding is made of.

`torch` keeps a weight as outputs by inputs, which is a slow order for products with few rows. So a second copy is kept
in another one, for as long as the weight does not change. For one or two rows, whose time is that of reading the
weight, it is inputs by outputs: read at about twice the speed. For more rows it is the blocked order of oneDNN, which
spares its products what `torch`'s do anew each time, rearranging the weight: up to three times the speed.

N rows, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, cat, is_grad_enabled, nn

ROWS = 64
"""The most rows for which the copy is read."""
BLOCKED_FROM = 3
"""Rows from which on the blocked order is the faster one."""
NUMBERS = 4 << 20
"""The most numbers of a weight that is copied: larger ones are not worth the memory."""


class SmallBatchProduct(Protocol):
    """A copy of a weight, as the linear map it stands for."""

    def __call__(self, x: Tensor, bias_O: Tensor | None) -> Tensor:
        """[..., I] -> [..., O]."""
        ...

    def added(self, to_NO: Tensor, x_NI: Tensor, bias_O: Tensor | None) -> Tensor:
        """[N, O]: what it gives and something more."""
        ...


class Turned(NamedTuple):
    """Inputs by outputs."""

    weight_IO: Tensor

    def __call__(self, x: Tensor, bias_O: Tensor | None) -> Tensor:
        if bias_O is None:
            return x @ self.weight_IO
        return torch.addmm(bias_O, x, self.weight_IO) if x.ndim == 2 else x @ self.weight_IO + bias_O

    def added(self, to_NO: Tensor, x_NI: Tensor, bias_O: Tensor | None) -> Tensor:
        out = torch.addmm(to_NO, x_NI, self.weight_IO)
        return out if bias_O is None else out.add_(bias_O)


class Blocked(NamedTuple):
    """In the order that oneDNN chose."""

    weight: Tensor

    def __call__(self, x: Tensor, bias_O: Tensor | None) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, bias_O, "none", [], "")
        return out

    def added(self, to_NO: Tensor, x_NI: Tensor, bias_O: Tensor | None) -> Tensor:
        return self(x_NI, bias_O).add_(to_NO)


class SmallBatchCopy:
    """Weights one under another, in another order, copied again where one of them was changed since.

    Fused optimizers change a weight without counting it as a change. So whoever owns a copy drops it whenever it is
    used with gradients or put into training or evaluation mode.
    """

    def __init__(self) -> None:
        self._held: tuple[tuple[bool, tuple[tuple[int, int], ...]], SmallBatchProduct] | None = None

    def of(self, blocked: bool, *weights_OI: Tensor) -> SmallBatchProduct:
        """All their outputs.

        Args:
            blocked: in which order, where `blocks` allows it.
        """
        now = blocked, tuple((weight.data_ptr(), weight._version) for weight in weights_OI)
        if self._held is None or self._held[0] != now:
            self._held = (now, _copied([weight.detach() for weight in weights_OI], blocked))
        return self._held[1]

    def drop(self) -> None:
        """The next call copies again."""
        self._held = None

    def __getstate__(self) -> dict[str, object]:
        """Without the copy, which is made again where it is needed."""
        return {"_held": None}


class SmallBatchLinear(nn.Linear):
    """nn.Linear with the same parameters; faster without gradients, on a CPU, where few rows go through it."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self._copy = SmallBatchCopy()

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        if is_grad_enabled():
            self._copy.drop()
            return super().forward(x)
        rows = x.numel() // self.in_features
        # Several tokens of a row are a prompt: after it come single ones, for which the copy may be in another order.
        prompt = x.ndim > 2 and x.shape[-2] > 1
        if prompt or rows > ROWS or not self.copies() or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        return self.product(rows >= BLOCKED_FROM)(x, self.bias)

    def train(self, mode: bool = True) -> Self:
        self._copy.drop()
        return super().train(mode)

    def copies(self) -> bool:
        """Whether the weight is one that is copied."""
        weight = self.weight
        return weight.device.type == "cpu" and weight.numel() <= NUMBERS and not weight.is_inference()

    def product(self, blocked: bool) -> SmallBatchProduct:
        """The map without its bias, from a copy in this order."""
        return self._copy.of(blocked, self.weight)


def _copied(weights_OI: Sequence[Tensor], blocked: bool) -> SmallBatchProduct:
    weight_OI = weights_OI[0] if len(weights_OI) == 1 else cat(list(weights_OI))
    if blocked and weight_OI.dtype == torch.float32 and _has_blocked_order():
        return Blocked(torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), 16))
    return Turned(weight_OI.t().contiguous())


def _has_blocked_order() -> bool:
    """Whether this build of torch has the products that its own compiler puts in the place of linear maps."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not built or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key("mkldnn::_reorder_linear_weight", "CPU"))
