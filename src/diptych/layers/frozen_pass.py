"""A frozen tower run over many inputs as fast as the machine allows.

On a CPU the tower is compiled with its weights frozen into the program: batch norm folds into the convolutions, their
weights are laid out once for the kernels, activations fuse. Without a C++ compiler it runs eagerly, and says so.

B batch, D feature width.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from diptych.core.allocator import keep_large_blocks
from diptych.core.half_precision import bf16_pays

Precision = Literal["float32", "bfloat16", "auto"]

_log = logging.getLogger(__name__)


class FrozenPass:
    """Features without gradients, in batches of one size.

    Args:
        tower: in evaluation mode; not trained while this exists, for a compiled pass keeps the weights it first saw.
        batch_size: rows a pass; a shorter last batch is filled up, so that one program serves all.
        precision: of matrix products and convolutions (autocast); "auto" is bfloat16 where the device is faster so, and
            float32 elsewhere; features are float32 either way.
        compiled: whether to compile. Pays off for inputs of one shape (pictures), not for text of many lengths.
    """

    def __init__(
        self, tower: nn.Module, batch_size: int, precision: Precision = "float32", compiled: bool = True
    ) -> None:
        assert not tower.training, "a frozen pass needs its tower in evaluation mode"
        keep_large_blocks()
        self.batch_size = batch_size
        self.precision = precision
        self._eager = tower
        self._run: Callable[..., Tensor] = compiled_frozen(tower) if compiled else tower

    def __call__(self, *inputs: Tensor) -> Tensor:
        """features_ND of inputs with N rows each, computed `batch_size` rows at a time."""
        rows = inputs[0].shape[0]
        parts = [
            self._batch([one[begin : begin + self.batch_size] for one in inputs])
            for begin in range(0, rows, self.batch_size)
        ]
        return torch.cat(parts)

    def _batch(self, inputs: list[Tensor]) -> Tensor:
        rows = inputs[0].shape[0]
        lacking = self.batch_size - rows
        if lacking:
            inputs = [torch.cat([one, one[-1:].expand(lacking, *one.shape[1:])]) for one in inputs]
        with torch.no_grad(), _autocast(inputs[0].device, self.precision):
            return self._run(*inputs)[:rows].float()


def exact(precision: Precision, device: torch.device) -> Precision:
    """What "auto" comes to on a device."""
    if precision != "auto":
        return precision
    return "bfloat16" if bf16_pays(device.type) else "float32"


def compiled_frozen(module: nn.Module) -> Callable[..., Tensor]:
    """The module compiled with frozen weights; itself, with a logged sentence, where no C++ compiler is found.

    For use under `torch.no_grad()` only.
    """
    on_cpu = next(module.parameters()).device.type == "cpu"
    if on_cpu and not cpp_compiler():
        _log.warning(
            "no C++ compiler was found (install g++, or name one in CXX): the frozen tower runs eagerly, "
            "about half as fast"
        )
        return module
    if on_cpu:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compiled: Callable[..., Tensor] = torch.compile(module, dynamic=False, options={"freezing": True})
    return compiled


def cpp_compiler() -> str | None:
    """The C++ compiler that torch.compile would call on this machine."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else shutil.which("g++") or shutil.which("clang++")


@contextmanager
def _autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    with torch.autocast(device.type, torch.bfloat16, enabled=exact(precision, device) == "bfloat16"):
        yield
