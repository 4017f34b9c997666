"""diptych: a workbench for vision-language models.

import diptych
model = diptych.load("runs/clip_tiny")
model.score(["cat.jpg"], ["a cat", "a dog"])
diptych.evaluate(model, ["retrieval"], data="path/to/shards")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diptych.capabilities.export import export as export
    from diptych.capabilities.load import load as load
    from diptych.evaluation.runner import evaluate as evaluate

_LAZY = {
    "evaluate": "diptych.evaluation.runner",
    "export": "diptych.capabilities.export",
    "load": "diptych.capabilities.load",
}

__all__ = ["__version__", "evaluate", "export", "load"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'diptych' has no attribute '{name}'")
