"""A VQ model's encoder and codebook in the form of transformers' ChameleonVQVAE: the reverse of `_chameleon.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.quantizer import QuantizerConfig
from diptych.models._weight_tables import write
from diptych.models.image_tokenizer._chameleon import GROUPS, MODEL_TYPE, entries


def lacking(autoencoder: AutoencoderConfig, quantizer: QuantizerConfig) -> list[str]:
    """The options, with the values that would do, which ChameleonVQVAE cannot be told."""
    first = autoencoder.channels[0]
    multiples = all(width % first == 0 for width in autoencoder.channels)
    asked = {
        "autoencoder.patch 1": autoencoder.patch == 1,
        f"autoencoder.groups {GROUPS}": autoencoder.groups == GROUPS,
        f"autoencoder.channels of multiples of {first}": multiples,
        "autoencoder.attention": autoencoder.attention or not autoencoder.attended,
        "quantizer.no-l2": not quantizer.l2,
    }
    return [option for option, met in asked.items() if not met]


def vq_config(autoencoder: AutoencoderConfig, quantizer: QuantizerConfig, image_size: int) -> dict[str, Any]:
    """The sizes as `sizes_of` reads them."""
    first = autoencoder.channels[0]
    return {
        "model_type": MODEL_TYPE,
        "embed_dim": quantizer.width,
        "num_embeddings": quantizer.codes,
        "latent_channels": autoencoder.latent,
        "resolution": image_size,
        "base_channels": first,
        "channel_multiplier": [width // first for width in autoencoder.channels],
        "num_res_blocks": autoencoder.blocks,
        "attn_type": "vanilla" if autoencoder.attention else "none",
        "attn_resolutions": [image_size // 2**stage for stage in autoencoder.attended],
    }


def public_state(state: Mapping[str, Tensor], config: AutoencoderConfig, decoder: bool) -> dict[str, Tensor]:
    """Their state dict of ours.

    Args:
        decoder: whether it is the whole VQGAN's in that layout.
    """
    table = entries(config, decoder)
    kept = {entry.ours for entry in table}
    public = write(table, {name: one.detach().cpu().float() for name, one in state.items() if name in kept})
    return {name: _with_kernel(name, tensor) for name, tensor in public.items()}


def _with_kernel(name: str, tensor: Tensor) -> Tensor:
    """Attention's matrices as the convolutions of 1 x 1 that they are there."""
    return tensor[:, :, None, None] if tensor.ndim == 2 and (".attn." in name or ".attn_1." in name) else tensor
