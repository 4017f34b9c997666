"""The memory that tensors take while something runs, followed allocation by allocation.

A storage counts from the operation that makes it until nothing holds it, so what autograd saves for the backward pass,
temporaries and gradients are all seen, for any model and without a formula. What a kernel allocates and frees inside
itself is not: that, and what the allocator loses between blocks, is the difference to what a process holds.

While gradients come, activations go: the most of both together is at neither's end. So the most that is held is kept
for each number of gradients that are there already, which does not depend on the size of the batch.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.hooks import RemovableHandle


@dataclass
class Held:
    """The most bytes while so many gradients were there: of gradients, and of everything else that was made."""

    gradients: int = 0
    others: int = 0


class TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows what is made inside; what was there before counts as nothing.

    Args:
        parameters: whose gradients are told from the rest.

    Attributes:
        moments: by the number of gradients that have come so far.
        operations: how many there were.
    """

    def __init__(self, parameters: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moments: list[Held] = [Held()]
        self.operations = 0
        self._parameters = list(parameters)
        self._live: dict[int, int] = {}
        self._of_gradients: set[int] = set()
        self._gradients = self._others = 0
        self._hooks: list[RemovableHandle] = []

    @property
    def most(self) -> int:
        """At once, gradients included."""
        return max(held.gradients + held.others for held in self.moments)

    def __enter__(self) -> Self:
        for parameter in self._parameters:
            self._hooks.append(parameter.register_post_accumulate_grad_hook(self._arrived))  # type: ignore[no-untyped-call]
            if parameter.grad is not None:  # of the step before, until it is set to None
                self._made(parameter.grad)
                self._is_gradient(parameter.grad)
        self._note()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        given = {_address(one) for one in tree_iter((args, kwargs)) if _is_dense(one)}
        for one in tree_iter(out):
            if _is_dense(one) and _address(one) not in given:  # a view, or a result in place, is no new memory
                self._made(one)
        self._note()
        return out

    def _made(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = _address(tensor), storage.nbytes()
        if address in self._live or size == 0:
            return
        self._live[address] = size
        self._others += size
        weakref.finalize(storage, self._freed, address).atexit = False

    def _freed(self, address: int) -> None:
        size = self._live.pop(address)
        if address in self._of_gradients:
            self._of_gradients.remove(address)
            self._gradients -= size
        else:
            self._others -= size

    def _arrived(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._is_gradient(parameter.grad)
        self.moments.append(Held())
        self._note()

    def _is_gradient(self, gradient: Tensor) -> None:
        address = _address(gradient)
        if address in self._live and address not in self._of_gradients:
            self._of_gradients.add(address)
            self._others -= self._live[address]
            self._gradients += self._live[address]

    def _note(self) -> None:
        held = self.moments[-1]
        if self._gradients + self._others > held.gradients + held.others:
            held.gradients, held.others = self._gradients, self._others


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
