"""A model folder: weights, full configuration, processor and tokenizer, loaded only together and strictly.

model.safetensors    every parameter and persistent buffer
model.json           which predictor class, its configuration, the format's version
tokenizer.json ...   what the predictor adds
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import CheckpointError, StorageError

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
FORMAT = 1


def write_model(predictor: Predictor, folder: Path) -> None:
    """Writes a model folder into `folder`, which exists (wrap it in `storage.atomic_folder`)."""
    cls = type(predictor)
    description = {
        "format": FORMAT,
        "predictor": f"{cls.__module__}:{cls.__qualname__}",
        "name": predictor.name,
        **predictor.describe(),
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in predictor.module.state_dict().items()}
    try:
        save_file(_unshared(weights), folder / WEIGHTS)
    except SafetensorError as error:  # an error of the operating system, in other clothes
        raise StorageError(f"cannot write {folder / WEIGHTS}: {error}") from error
    predictor.save_files(folder)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def read_model(folder: Path) -> Predictor:
    """The predictor of a model folder, in evaluation mode on the CPU.

    Raises:
        CheckpointError: a file is missing or truncated, or the weights are those of another model.
    """
    description = read_description(folder)
    module_name, _, class_name = str(description.get("predictor", "")).partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{folder}: its predictor '{module_name}:{class_name}' is not installed") from error
    predictor: Predictor = cls.restore(description, folder)
    predictor.name = str(description.get("name", folder.name))
    load_weights(predictor.module, folder / WEIGHTS)
    predictor.module.eval()
    return predictor


def read_description(folder: Path) -> dict[str, Any]:
    """The parsed `model.json`."""
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a model folder: it has no {DESCRIPTION}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is truncated or not JSON") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a model folder of format {FORMAT}")
    return description


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Loads a safetensors file strictly.

    Raises:
        CheckpointError: missing, truncated, or of another model (the first differing names are given).
    """
    try:
        state = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no weights at {path}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or damaged: {error}") from error
    expected = module.state_dict()
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += [n for n in sorted(expected.keys() & state.keys()) if expected[n].shape != state[n].shape]
    if wrong:
        raise CheckpointError(f"{path} holds the weights of another model: {', '.join(wrong[:3])} differ")
    module.load_state_dict(state)


def _unshared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies tensors that share memory (tied weights): safetensors refuses those."""
    seen: set[int] = set()
    result = {}
    for name, tensor in weights.items():
        address = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return result
