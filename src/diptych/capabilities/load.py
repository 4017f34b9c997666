"""`diptych.load`: a predictor from whatever a user points at.

A run folder, a model folder of ours, a Hugging Face or open_clip folder, or a hub id. For public weights the one model
file whose `READS` names the architecture is imported, and no other.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch

from diptych.capabilities.folder import DESCRIPTION, read_model
from diptych.capabilities.predictor import Predictor
from diptych.core import discovery
from diptych.core.errors import CheckpointError, DeviceError, DiptychError, MissingExtra
from diptych.core.records.run_folder import RunFolder

OPEN_CLIP_CONFIG = "open_clip_config.json"
PIPELINE_INDEX = "model_index.json"
AUTO = "auto"
_OF_OTHER_FRAMEWORKS = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data", "*.tflite", "*.mlpackage/*"]


def load(reference: str | Path, device: str | torch.device = "cpu") -> Predictor:
    """A trained model with its processor.

    Args:
        reference: a run folder, a model folder, a Hugging Face or open_clip folder, or a hub id ("org/name").
        device: where to put the weights; "auto" for a GPU where there is one.

    Returns:
        the predictor, in evaluation mode; `verbs` says what it can be asked, each verb being a method.

    Raises:
        CheckpointError: nothing there, truncated, or of no known model.
        DeviceError: the device is not there.
        DiptychError: the hub did not give it.
    """
    found = check_device(device)
    return _load_folder(folder_of(reference)).to(found)


def folder_of(reference: str | Path) -> Path:
    """The folder that a path or a hub id names; a hub id is downloaded on first use.

    Raises:
        CheckpointError: nothing there.
        DiptychError: the hub did not give it.
    """
    path = Path(reference)
    return path if path.exists() else _from_hub(str(reference))


def check_device(device: str | torch.device) -> torch.device:
    """The device, as torch knows it; "auto" is a CUDA device where torch sees one, and the CPU elsewhere.

    Raises:
        DeviceError: it is not there.
    """
    if device == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"device '{device}' is none that torch knows: auto, cpu, cuda, cuda:1, mps") from error
    if found.type == "cuda" and torch.cuda.device_count() <= (found.index or 0):
        raise DeviceError(f"device '{device}' is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"device '{device}' is not there")
    if found.type not in ("cpu", "cuda", "mps"):
        _require_memory(found)
    return found


def _require_memory(device: torch.device) -> None:
    """A device of another kind, asked in the one way that all kinds understand."""
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise DeviceError(f"device '{device}' is not there") from error


def _load_folder(path: Path) -> Predictor:
    if (path / DESCRIPTION).is_file():
        return read_model(path)
    if RunFolder.is_one(path):
        return read_model(RunFolder(path).best_model())
    return _load_public(path)


def _load_public(path: Path) -> Predictor:
    architecture = architecture_of(path)
    for found in discovery.models().values():
        if architecture in found.literal("READS", ()):
            predictor: Predictor = importlib.import_module(found.module).weights_from(path)
            return predictor
    known = sorted(name for found in discovery.models().values() for name in found.literal("READS", ()))
    raise CheckpointError(f"{path} holds a {architecture}, which no model here reads; known: {', '.join(known)}")


def architecture_of(path: Path) -> str:
    """What a public folder holds: the class of transformers or diffusers, `open_clip/clip` or `open_clip/siglip`."""
    if (path / OPEN_CLIP_CONFIG).is_file():
        config = _configuration(path / OPEN_CLIP_CONFIG).get("model_cfg", {})
        if "multimodal_cfg" in config:
            return "open_clip/coca"
        return "open_clip/siglip" if "init_logit_bias" in config else "open_clip/clip"
    if (path / PIPELINE_INDEX).is_file():
        return str(_configuration(path / PIPELINE_INDEX).get("_class_name", "unknown pipeline"))
    if (path / "config.json").is_file():
        config = _configuration(path / "config.json")
        return str((config.get("architectures") or [config.get("_class_name", "unknown architecture")])[0])
    raise CheckpointError(
        f"{path} is no model: expected a run folder, a {DESCRIPTION}, a config.json or an {OPEN_CLIP_CONFIG}"
    )


def _configuration(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is truncated or not JSON") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return found


def _from_hub(reference: str) -> Path:
    if reference.count("/") != 1 or reference.startswith((".", "/", "~")):
        raise CheckpointError(
            f"no model at {reference}: name a run folder, a model folder, a folder of transformers, diffusers or "
            f"open_clip, or a hub id (org/name)"
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise MissingExtra("huggingface_hub", "transformers", f"loading '{reference}' from the hub") from error
    try:
        return Path(snapshot_download(reference, ignore_patterns=_OF_OTHER_FRAMEWORKS))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise DiptychError(f"no folder named {reference}, and the hub did not give it: {error}") from error
