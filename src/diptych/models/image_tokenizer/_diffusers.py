"""diffusers' VQModel folders: which of their settings and weights is which of ours.

config.json                          sizes; "_class_name" is VQModel
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

from diptych.core.errors import CheckpointError, ConfigError
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.models._public_folder import read_json, read_weights
from diptych.models._weight_tables import Entry, both, read, write
from diptych.models.image_tokenizer._conv_names import DIFFUSERS, DIFFUSERS_OLD, Names, side_entries

STEM = "diffusion_pytorch_model"
FIXED: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "act_fn": "silu", "norm_type": "group"}
_OF_TRAINING = ("quantizer.usage_K", "quantizer.sums_KC", "quantizer.steps")


@dataclass(frozen=True)
class VqSizes:
    """What a `config.json` says.

    Attributes:
        codes, width: of the codebook.
        image_size: side of the pictures that it was trained on.
        scaling: by what latent diffusion multiplies the vectors.
    """

    autoencoder: AutoencoderConfig
    codes: int
    width: int
    image_size: int
    scaling: float


def read_sizes(folder: Path) -> VqSizes:
    """The sizes of a VQModel folder.

    Raises:
        CheckpointError: no configuration, or a damaged one.
        ConfigError: it has a part that is not done here.
    """
    plain = read_json(folder / "config.json")
    autoencoder = convolutions(plain, folder, latent=3)
    width = plain.get("vq_embed_dim") or autoencoder.latent
    scaling = float(plain.get("scaling_factor", 0.18215))
    return VqSizes(autoencoder, plain.get("num_vq_embeddings", 256), width, plain.get("sample_size", 32), scaling)


def convolutions(plain: Mapping[str, Any], folder: Path, latent: int) -> AutoencoderConfig:
    """The encoder and decoder that a `config.json` describes.

    Args:
        latent: channels where it does not say.

    Raises:
        ConfigError: it has a part that is not done here.
    """
    for name, expected in FIXED.items():
        if plain.get(name, expected) != expected:
            raise ConfigError(f"{folder}: {name} {plain[name]!r} is not done here, {expected!r} is")
    kinds = {*plain.get("down_block_types", ()), *plain.get("up_block_types", ())}
    if other := sorted(kinds - {"DownEncoderBlock2D", "UpDecoderBlock2D"}):
        raise ConfigError(f"{folder}: blocks of kind {other[0]} are not done here")
    return AutoencoderConfig(
        channels=tuple(plain.get("block_out_channels", (64,))),
        blocks=plain.get("layers_per_block", 1),
        latent=plain.get("latent_channels", latent),
        groups=plain.get("norm_num_groups", 32),
        attention=plain.get("mid_block_add_attention", True),
    )


def names_of(public: Mapping[str, Tensor]) -> Names:
    """The names of attention's maps changed between versions."""
    older = any(".attentions." in name and ".query." in name for name in public)
    return DIFFUSERS_OLD if older else DIFFUSERS


def read_state(folder: Path, sizes: VqSizes, fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict; what training alone keeps comes from `fresh`, the state dict of an untrained module.

    Raises:
        CheckpointError: a weight is missing, left over, or of another shape.
    """
    public = read_weights(folder, STEM, f"{STEM}.bin")
    codebook = public.get("quantize.embedding.weight")
    if codebook is not None and codebook.shape != (sizes.codes, sizes.width):
        raise CheckpointError(
            f"{folder}: its configuration says {sizes.codes} codes of width {sizes.width}, and its weights hold a "
            f"codebook of shape {list(codebook.shape)}: they are of two models"
        )
    state = read(entries(sizes.autoencoder, names_of(public)), public, folder)
    state |= {name: fresh[name] for name in _OF_TRAINING if name in fresh}
    if wrong := [name for name, tensor in fresh.items() if tensor.shape != state[name].shape]:
        raise CheckpointError(f"{folder}: the weight {wrong[0]} is not of the shape its configuration says")
    return state


def write_folder(folder: Path, sizes: VqSizes, state: Mapping[str, Tensor]) -> None:
    """Writes the configuration and the weights.

    Raises:
        ConfigError: the model has a part that VQModel does not.
    """
    config = sizes.autoencoder
    require_plain(config, "VQModel")
    (folder / "config.json").write_text(json.dumps(_configuration(sizes), indent=2) + "\n", encoding="utf-8")
    ours = {name: tensor.detach().cpu().to(torch.float32) for name, tensor in state.items() if name not in _OF_TRAINING}
    save_file(write(entries(config), ours), folder / f"{STEM}.safetensors", metadata={"format": "pt"})


def _configuration(sizes: VqSizes) -> dict[str, Any]:
    """What `read_sizes` reads."""
    return {
        "_class_name": "VQModel",
        **described(sizes.autoencoder, sizes.image_size),
        "num_vq_embeddings": sizes.codes,
        "vq_embed_dim": sizes.width,
        "scaling_factor": sizes.scaling,
    }


def require_plain(config: AutoencoderConfig, kind: str) -> None:
    """Refuses what diffusers' class of this name does not have.

    Raises:
        ConfigError: the convolutions have a part that it has not.
    """
    if config.patch > 1:
        raise ConfigError(
            f"diffusers' {kind} takes pixels as they are, and this model squares of {config.patch} x {config.patch}: "
            f"it has no format there; train one with autoencoder.patch 1 to share it"
        )
    if config.attended:
        raise ConfigError(
            f"diffusers' {kind} attends in the middle only, and this model in stages {config.attended} too: it has no "
            f"format there; train one without autoencoder.attended to share it"
        )


def described(config: AutoencoderConfig, image_size: int) -> dict[str, Any]:
    """What `convolutions` reads."""
    stages = len(config.channels)
    return {
        **FIXED,
        "down_block_types": ["DownEncoderBlock2D"] * stages,
        "up_block_types": ["UpDecoderBlock2D"] * stages,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.blocks,
        "latent_channels": config.latent,
        "sample_size": image_size,
        "norm_num_groups": config.groups,
        "mid_block_add_attention": config.attention,
    }


def entries(config: AutoencoderConfig, names: Names = DIFFUSERS) -> list[Entry]:
    """Every weight of the model and its name there."""
    codebook = [Entry("quantizer.codebook_KC", ("quantize.embedding.weight",))]
    maps = both("to_code", "quant_conv") + both("from_code", "post_quant_conv")
    return [*codebook, *maps, *side_entries("encoder", config, names), *side_entries("decoder", config, names)]
