"""The largest tensor that any operation makes, whoever calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Largest(TorchDispatchMode):
    """Within it `elements` grows to those of the largest tensor that is made.

    A view counts as what it shows: an expanded tensor that nobody writes out would count too.
    """

    elements: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor))])
        return made


def largest_of_backward(loss: Callable[..., Tensor], *tensors: Tensor) -> int:
    """Elements of the largest tensor of loss(*tensors) and its gradients."""
    with Largest() as seen:
        torch.autograd.grad(loss(*tensors), [tensor for tensor in tensors if tensor.requires_grad])
    return seen.elements
