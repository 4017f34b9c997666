"""Floating point operations of a training step, counted while it runs.

PyTorch's counter knows matrix products and convolutions. It counts fused attention on a CPU as nothing, so that is
counted here by formula: two products forward (q k^T and the weights times v), four backward. What a kernel computes a
second time to save memory is not counted: the number says what the model takes, not what the machine does, and is the
same on every device. A multiplication and its addition are two operations.

B batch, H heads, T queries, S keys, K width of a key's head, V of a value's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from diptych.core.task import Batch, Task
from diptych.training.backward import backward

Shape = tuple[int, ...]


def attention_forward(query: Shape, key: Shape, value: Shape) -> int:
    """Of q [B, H, T, K], k [B, H, S, K] and v [B, H, S, V]; as everywhere, a causal mask spares nothing."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[-2] * (width + value[-1])


def attention_backward(query: Shape, key: Shape, value: Shape) -> int:
    """The gradients of weights and values, and of queries and keys."""
    return 2 * attention_forward(query, key, value)


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that run inside.

    PyTorch's own mode also says which module they belong to, and for that hangs hooks on modules, which not every
    model bears; its formulas are the same.

    Attributes:
        flops: so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        out = func(*args, **named)
        operator = func._overloadpacket
        if operator in _FORWARD:
            self.flops += attention_forward(*(tensor.shape for tensor in args[:3]))
        elif operator in _BACKWARD:  # its first argument is the gradient of what the forward pass gave
            self.flops += attention_backward(*(tensor.shape for tensor in args[1:4]))
        elif operator in flop_registry:
            self.flops += flop_registry[operator](*args, **named, out_val=out)
        return out


_ATEN = torch.ops.aten
_FORWARD = {_ATEN._scaled_dot_product_flash_attention_for_cpu}
# PyTorch's formulas for the others add what these kernels compute again.
_BACKWARD = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward,
    _ATEN._scaled_dot_product_flash_attention_backward,
    _ATEN._scaled_dot_product_efficient_attention_backward,
    _ATEN._scaled_dot_product_cudnn_attention_backward,
}


def step_flops(task: Task[Any], batches: Sequence[Batch]) -> int:
    """Of the forward and backward passes of every phase on a batch; the optimizer's are not worth counting.

    Leaves gradients behind.

    Args:
        batches: the batch, or the micro-batches of it: gradient caching embeds them twice, and that is counted.
    """
    with Counter() as counter:
        for phase in task.phases:
            backward(task, batches, phase)
    return int(counter.flops)
