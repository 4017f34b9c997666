"""diffusers' AutoencoderKL folders: which of their settings and weights is which of ours.

config.json                          sizes; "_class_name" is AutoencoderKL
diffusion_pytorch_model.safetensors  weights; the names of attention's maps are others in older files
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.models._public_folder import read_json, read_weights
from diptych.models._weight_tables import Entry, both, read, write
from diptych.models.image_tokenizer._conv_names import DIFFUSERS, Names, side_entries
from diptych.models.image_tokenizer._diffusers import STEM, convolutions, described, names_of, require_plain
from diptych.models.image_tokenizer._kl_module import Latent

_OF_TRAINING = "measured.moments_3"


@dataclass(frozen=True)
class KlSizes:
    """What a `config.json` says.

    Attributes:
        image_size: side of the pictures that it was trained on.
    """

    autoencoder: AutoencoderConfig
    latent: Latent
    image_size: int


def read_sizes(folder: Path) -> KlSizes:
    """The sizes of an AutoencoderKL folder.

    Raises:
        CheckpointError: no configuration, or a damaged one.
        ConfigError: it has a part that is not done here.
    """
    plain = read_json(folder / "config.json")
    if plain.get("latents_mean") is not None or plain.get("latents_std") is not None:
        raise ConfigError(f"{folder}: a mean and deviation for every latent channel is not done here, one scale is")
    latent = Latent(
        scaling=float(plain.get("scaling_factor", 0.18215)),
        shift=float(plain.get("shift_factor") or 0.0),
        encoder_map=plain.get("use_quant_conv", True),
        decoder_map=plain.get("use_post_quant_conv", True),
    )
    size = plain.get("sample_size", 32)
    return KlSizes(convolutions(plain, folder, latent=4), latent, size[0] if isinstance(size, list) else size)


def read_state(folder: Path, sizes: KlSizes, fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict; what training alone keeps comes from `fresh`, the state dict of an untrained module.

    Raises:
        CheckpointError: a weight is missing or left over.
    """
    public = read_weights(folder, STEM, f"{STEM}.bin")
    state = read(entries(sizes, names_of(public)), public, folder)
    return {**state, _OF_TRAINING: fresh[_OF_TRAINING]}


def write_folder(folder: Path, sizes: KlSizes, scaling: float, state: Mapping[str, Tensor]) -> None:
    """Writes the configuration and the weights.

    Raises:
        ConfigError: the model has a part that AutoencoderKL does not.
    """
    require_plain(sizes.autoencoder, "AutoencoderKL")
    (folder / "config.json").write_text(json.dumps(_configuration(sizes, scaling), indent=2) + "\n", encoding="utf-8")
    ours = {name: tensor.detach().cpu().to(torch.float32) for name, tensor in state.items() if name != _OF_TRAINING}
    save_file(write(entries(sizes), ours), folder / f"{STEM}.safetensors", metadata={"format": "pt"})


def _configuration(sizes: KlSizes, scaling: float) -> dict[str, Any]:
    """What `read_sizes` reads."""
    plain = described(sizes.autoencoder, sizes.image_size)
    del plain["norm_type"]  # AutoencoderKL has one kind only, and no word for it
    return {
        "_class_name": "AutoencoderKL",
        **plain,
        "scaling_factor": scaling,
        "shift_factor": sizes.latent.shift or None,
        "use_quant_conv": sizes.latent.encoder_map,
        "use_post_quant_conv": sizes.latent.decoder_map,
    }


def entries(sizes: KlSizes, names: Names = DIFFUSERS) -> list[Entry]:
    """Every weight of the model and its name there."""
    config, found = sizes.autoencoder, []
    if sizes.latent.encoder_map:
        found += both("to_latent", "quant_conv")
    if sizes.latent.decoder_map:
        found += both("from_latent", "post_quant_conv")
    return [*found, *side_entries("encoder", config, names), *side_entries("decoder", config, names)]
