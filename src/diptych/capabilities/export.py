"""Models of ours as folders of the Hugging Face format."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from diptych.capabilities.load import load
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.storage import atomic_folder


def export(model: Predictor | str | Path, folder: Path | str) -> Path:
    """Writes a folder that `transformers` loads: weights, configuration, preprocessing, tokenizer, model card.

    Args:
        model: a predictor, or what `load` takes.
        folder: must not exist yet.

    Raises:
        ConfigError: the folder exists, or no class of `transformers` has this architecture.
    """
    place = Path(folder)
    if place.exists():
        raise ConfigError(f"{place} exists already: choose another folder")
    predictor = model if isinstance(model, Predictor) else load(model)
    module = import_module(type(predictor).__module__)
    if not hasattr(module, "export_to"):
        raise ConfigError(f"{predictor.name} has no Hugging Face format: nothing there expresses its architecture")
    with atomic_folder(place) as part:
        module.export_to(predictor, part)
    return place
