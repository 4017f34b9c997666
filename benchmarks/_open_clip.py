"""open_clip, and the timm it builds towers with, without torchvision, of which no wheel fits a CPU build of torch.

Both import torchvision for preprocessing and data, which no benchmark here uses: names that are asked for exist and do
nothing.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from enum import Enum
from types import ModuleType
from typing import Any

from _measure import peer


class _Constants(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class _Nothing(metaclass=_Constants):
    """Stands for any class, function or constant of torchvision."""

    def __init__(self, *args: Any) -> None:
        raise NotImplementedError("torchvision is not here: only open_clip's models and losses can be used")


_MODES = Enum("InterpolationMode", ["NEAREST", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS"])
"""timm makes a dictionary of them while it is imported, so they must differ."""


class _Empty(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _MODES if name == "InterpolationMode" else _Nothing


def open_clip() -> ModuleType:
    """The package.

    Its use of transformers asks whether torchvision is installed, so transformers must not be imported after this.
    """
    if importlib.util.find_spec("torchvision") is None:
        for name in ("", ".transforms", ".transforms.functional", ".ops", ".ops.misc", ".datasets"):
            module = _Empty(f"torchvision{name}")
            module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None, is_package=True)
            module.__path__ = []
            sys.modules[module.__name__] = module
            parent, _, child = module.__name__.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
    return peer("open_clip", "open_clip_torch")
