"""diptych: a workbench for vision-language models.

    import diptych

    model = diptych.load("runs/clip_tiny")  # a run, a model folder, a Hugging Face folder or a hub id
    model.verbs  # what it can be asked: encode_image, encode_text, score, ...
    model.score(["cat.jpg"], ["a cat", "a dog"])  # [1, 2], higher matches better
    diptych.evaluate(model, ["retrieval"], data="path/to/shards")
    diptych.export(model, "clip_for_transformers")

Training, data, curves and reports are on the command line: `diptych --help`. What a model answers to is described in
`diptych.capabilities`, what a user can get wrong in `diptych.core.errors`.

Importing this package imports nothing else; torch comes with the first of these functions that is used.
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


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
