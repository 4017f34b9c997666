"""diffusers' VQModel folders: which of their settings and weights is which of ours.

config.json                          sizes; "_class_name" is VQModel
diffusion_pytorch_model.safetensors  weights; the names of attention's maps are others in older files
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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

STEM = "diffusion_pytorch_model"
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_ATTENTION_OLD = ("query", "key", "value", "proj_attn")
_FIXED: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "act_fn": "silu", "norm_type": "group"}
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
    for name, expected in _FIXED.items():
        if plain.get(name, expected) != expected:
            raise ConfigError(f"{folder}: {name} {plain[name]!r} is not done here, {expected!r} is")
    kinds = {*plain.get("down_block_types", ()), *plain.get("up_block_types", ())}
    if other := sorted(kinds - {"DownEncoderBlock2D", "UpDecoderBlock2D"}):
        raise ConfigError(f"{folder}: blocks of kind {other[0]} are not done here")
    latent = plain.get("latent_channels", 3)
    autoencoder = AutoencoderConfig(
        channels=tuple(plain.get("block_out_channels", (64,))),
        blocks=plain.get("layers_per_block", 1),
        latent=latent,
        groups=plain.get("norm_num_groups", 32),
        attention=plain.get("mid_block_add_attention", True),
    )
    width = plain.get("vq_embed_dim") or latent
    scaling = float(plain.get("scaling_factor", 0.18215))
    return VqSizes(autoencoder, plain.get("num_vq_embeddings", 256), width, plain.get("sample_size", 32), scaling)


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
    older = any(".attentions." in name and ".query." in name for name in public)
    state = read(entries(sizes.autoencoder, _ATTENTION_OLD if older else _ATTENTION), public, folder)
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
    if config.patch > 1:
        raise ConfigError(
            f"diffusers' VQModel takes pixels as they are, and this model squares of {config.patch} x {config.patch}: "
            f"it has no format there; train one with autoencoder.patch 1 to share it"
        )
    (folder / "config.json").write_text(json.dumps(_configuration(sizes), indent=2) + "\n", encoding="utf-8")
    ours = {name: tensor.detach().cpu().to(torch.float32) for name, tensor in state.items() if name not in _OF_TRAINING}
    save_file(write(entries(config), ours), folder / f"{STEM}.safetensors", metadata={"format": "pt"})


def _configuration(sizes: VqSizes) -> dict[str, Any]:
    """What `read_sizes` reads."""
    config = sizes.autoencoder
    stages = len(config.channels)
    return {
        "_class_name": "VQModel",
        **_FIXED,
        "down_block_types": ["DownEncoderBlock2D"] * stages,
        "up_block_types": ["UpDecoderBlock2D"] * stages,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.blocks,
        "latent_channels": config.latent,
        "sample_size": sizes.image_size,
        "num_vq_embeddings": sizes.codes,
        "norm_num_groups": config.groups,
        "vq_embed_dim": sizes.width,
        "scaling_factor": sizes.scaling,
        "mid_block_add_attention": config.attention,
    }


def entries(config: AutoencoderConfig, attention: tuple[str, ...] = _ATTENTION) -> list[Entry]:
    """Every weight of the model and its name there."""
    found = [Entry("quantizer.codebook_KC", ("quantize.embedding.weight",))]
    found += both("to_code", "quant_conv") + both("from_code", "post_quant_conv")
    for side, parts in (("encoder", _encoder_parts(config)), ("decoder", _decoder_parts(config))):
        found += both(f"{side}.conv_in", f"{side}.conv_in") + both(f"{side}.conv_out", f"{side}.conv_out")
        found += both(f"{side}.norm_out", f"{side}.conv_norm_out")
        for index, (theirs, kind) in enumerate(parts):
            ours = f"{side}.parts.{index}"
            found += _attention(ours, theirs, attention) if kind == "attention" else _layers(ours, theirs, kind)
    return found


def _encoder_parts(config: AutoencoderConfig) -> Iterator[tuple[str, str]]:
    """The name there and the kind of every part, in our order."""
    width = config.channels[0]
    for stage, wider in enumerate(config.channels):
        for block in range(config.blocks):
            yield f"encoder.down_blocks.{stage}.resnets.{block}", "residual" if width == wider else "widening"
            width = wider
        if stage < len(config.channels) - 1:
            yield f"encoder.down_blocks.{stage}.downsamplers.0", "resampling"
    yield from _middle("encoder", config)


def _decoder_parts(config: AutoencoderConfig) -> Iterator[tuple[str, str]]:
    yield from _middle("decoder", config)
    width = config.channels[-1]
    for stage, narrower in enumerate(reversed(config.channels)):
        for block in range(config.blocks + 1):
            yield f"decoder.up_blocks.{stage}.resnets.{block}", "residual" if width == narrower else "widening"
            width = narrower
        if stage < len(config.channels) - 1:
            yield f"decoder.up_blocks.{stage}.upsamplers.0", "resampling"


def _middle(side: str, config: AutoencoderConfig) -> Iterator[tuple[str, str]]:
    yield f"{side}.mid_block.resnets.0", "residual"
    if config.attention:
        yield f"{side}.mid_block.attentions.0", "attention"
    yield f"{side}.mid_block.resnets.1", "residual"


def _layers(ours: str, theirs: str, kind: str) -> list[Entry]:
    if kind == "resampling":
        return both(f"{ours}.conv", f"{theirs}.conv")
    found = [
        entry
        for layer in ("norm1", "conv1", "norm2", "conv2")
        for entry in both(f"{ours}.{layer}", f"{theirs}.{layer}")
    ]
    return found + (both(f"{ours}.shortcut", f"{theirs}.conv_shortcut") if kind == "widening" else [])


def _attention(ours: str, theirs: str, names: tuple[str, ...]) -> list[Entry]:
    stacked = [
        Entry(f"{ours}.qkv.{part}", tuple(f"{theirs}.{name}.{part}" for name in names[:3]))
        for part in ("weight", "bias")
    ]
    return both(f"{ours}.norm", f"{theirs}.group_norm") + stacked + both(f"{ours}.out", f"{theirs}.{names[3]}")
