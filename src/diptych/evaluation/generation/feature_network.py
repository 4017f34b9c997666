"""Features of pictures out of a frozen network that the user names: which one it is decides the numbers.

N pictures, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.folder import DESCRIPTION
from diptych.capabilities.load import architecture_of, folder_of, load
from diptych.capabilities.verbs import Verb, missing
from diptych.core import discovery
from diptych.core.errors import ConfigError, MissingExtra, MissingVerb
from diptych.core.records.run_folder import RunFolder
from diptych.core.visual import Image
from diptych.data.pixels.tower_inputs import TowerImages, read_tower_images
from diptych.evaluation.encoding import batched

BATCH = 64


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen network.

    Attributes:
        name: what reports call it, and what of it the features are.
        features: pictures -> [N, D] float32 on the CPU.
    """

    name: str
    features: Callable[[Sequence[Image]], Tensor]


def feature_network(reference: str, device: torch.device) -> FeatureNetwork:
    """The network of a setting.

    Args:
        reference: a model with `encode_image`, as `diptych.load` takes it, or a vision model's `transformers` folder.

    Raises:
        ConfigError: nothing is named, or the folder's model takes no pictures.
        MissingVerb: the model has no `encode_image`.
        CheckpointError: nothing there, or truncated.
    """
    if not reference:
        raise ConfigError(
            "distances between sets of pictures are between their features, and the network decides the numbers: name "
            "one with --set generated_distribution.features=PATH, a model with encode_image or a transformers folder"
        )
    folder = folder_of(reference)
    if not _is_ours(folder):
        return _transformers_network(folder, device)
    model = load(reference, device)
    if lacking := missing(model.VERBS, [Verb.ENCODE_IMAGE]):
        raise MissingVerb(model.name, lacking[0], model.verbs)
    return FeatureNetwork(f"{model.name} at {reference}, unit vectors of encode_image", model.encode_image)


def _is_ours(folder: Path) -> bool:
    """Whether `diptych.load` reads it: a folder of ours, or public weights that some model here reads."""
    if (folder / DESCRIPTION).is_file() or RunFolder.is_one(folder):
        return True
    architecture = architecture_of(folder)
    return any(architecture in found.literal("READS", ()) for found in discovery.models().values())


def _transformers_network(folder: Path, device: torch.device) -> FeatureNetwork:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "transformers", f"the feature network {folder}") from error
    try:
        module, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{folder} holds no model that transformers can load: {error}") from error
    if report["missing_keys"]:
        raise ConfigError(f"{folder} lacks weights, among them {min(report['missing_keys'])}: features would be random")
    module = module.eval().to(device)
    if module.main_input_name != "pixel_values":
        raise ConfigError(f"{folder} holds a model of {module.main_input_name}, not of pictures")
    images = read_tower_images(folder)
    name = f"{type(module).__name__} at {folder}, {_POOLED}"
    return FeatureNetwork(name, lambda pictures: _pooled(module, images, pictures, device))


_POOLED = "its pooled output, the mean over positions where it has none"


@torch.inference_mode()
def _pooled(module: Any, images: TowerImages, pictures: Sequence[Image], device: torch.device) -> Tensor:
    rows = []
    for some in batched(pictures, BATCH):
        pixels_NCHW = images.pixels(some).to(device).float()
        mean_C11, std_C11 = (torch.tensor(of, device=device)[:, None, None] for of in (images.mean, images.std))
        found = module(pixel_values=(pixels_NCHW * images.scale - mean_C11) / std_C11)
        pooled = getattr(found, "pooler_output", None)
        rows.append((pooled if pooled is not None else found.last_hidden_state.mean(1)).flatten(1).float().cpu())
    return torch.cat(rows)
