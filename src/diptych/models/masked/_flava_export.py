"""FLAVA written as transformers' FlavaForPreTraining folder.

The poolers, which no loss and no verb reads, become the identity. A codebook of our own has no place there: the folder
goes without (`init_codebook` false), and predicts its codes all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from diptych.capabilities.card import CARD, begun
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _weight_tables as tables
from diptych.models._public_folder import (
    activation_name,
    bert_tokenizer,
    write_json,
    write_preprocessing,
)
from diptych.models.masked._flava_codes import DalleCodes
from diptych.models.masked._flava_encoders import FusionConfig
from diptych.models.masked._flava_module import Flava, FlavaSizes
from diptych.models.masked._flava_table import flava_entries

_HEADS = ("mim_head", "mlm_head", "mmm_image_head", "mmm_text_head")
_USAGE = """
```python
from transformers import AutoTokenizer, FlavaForPreTraining
model = FlavaForPreTraining.from_pretrained("this/folder")
tokenizer = AutoTokenizer.from_pretrained("this/folder")
batch = tokenizer(["a text"], padding=True, return_tensors="pt")
text_features = model.flava.get_text_features(batch.input_ids, attention_mask=batch.attention_mask)
```
"""
_OWN_CODES = """
Hidden patches are predicted as codes of an image tokenizer that is no part of this folder; the run it came from has it.
"""


def write_folder(module: Flava, processor: ImageTextProcessor, name: str, folder: Path) -> None:
    """Weights, configuration, preprocessing, tokenizer, card.

    Raises:
        ConfigError: the model has a part that FlavaForPreTraining does not.
    """
    config = module.config
    _check(config)
    weights = _weights(module, config)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokens = processor.tokenizer
    write_json(folder / "config.json", _config(config) | {"pad_token_id": tokens.pad_id})
    write_json(folder / "preprocessor_config.json", write_preprocessing(processor.config.image, "CLIPImageProcessor"))
    tokens.write(folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", bert_tokenizer(tokens, processor.config.text.max_length))
    usage = _USAGE + ("" if isinstance(config.codes, DalleCodes) else _OWN_CODES)
    count = sum(tensor.numel() for tensor in weights.values())
    card = begun(name, "FlavaForPreTraining", count, "transformers", usage, "zero-shot-image-classification")
    (folder / CARD).write_text(card, encoding="utf-8")


def _check(config: FlavaSizes) -> None:
    if config.vision.backbone_channels:
        raise ConfigError(
            "transformers' FlavaForPreTraining cuts pictures into patches, and this model's cells come from a "
            "pretrained backbone: a run's own folder is what there is to share"
        )
    alike = {(one.width, one.activation, one.eps) for one in (config.vision, config.text, config.fusion)}
    if len(alike) > 1:
        raise ConfigError(
            "transformers' FlavaForPreTraining has heads of one size for its three encoders: to be shared they need "
            "the same width, activation and eps"
        )


def _weights(module: Flava, config: FlavaSizes) -> dict[str, Tensor]:
    """In their names: what `_flava_public.simplified` took out is put back."""
    blocks = config.codes.encoder.blocks if isinstance(config.codes, DalleCodes) else 0
    entries = flava_entries(config.vision.depth, config.text.depth, config.fusion.depth, blocks)
    kept = {entry.ours for entry in entries}
    state = {name: one.detach().cpu().float() for name, one in module.state_dict().items() if name in kept}
    public = tables.write(entries, state)
    for head in _HEADS:
        public[f"{head}.bias"] = public[f"{head}.decoder.bias"].clone()
    width = config.fusion.width
    public["flava.text_model.embeddings.token_type_embeddings.weight"] = torch.zeros(2, width)
    for side in ("image", "text", "multimodal"):
        public[f"flava.{side}_model.pooler.dense.weight"] = torch.eye(width)
        public[f"flava.{side}_model.pooler.dense.bias"] = torch.zeros(width)
    return public


def _config(config: FlavaSizes) -> dict[str, Any]:
    codes = config.codes
    plain: dict[str, Any] = {
        "architectures": ["FlavaForPreTraining"],
        "model_type": "flava",
        "hidden_size": config.fusion.width,
        "layer_norm_eps": config.fusion.eps,
        "projection_dim": config.width,
        "init_codebook": isinstance(codes, DalleCodes),
        "image_config": _sizes(config.vision, "flava_image_model")
        | {"image_size": config.vision.image_size, "patch_size": config.vision.patch_size}
        | {"vocab_size": codes.vocabulary},
        "text_config": _sizes(config.text, "flava_text_model")
        | {"vocab_size": config.text.vocab_size, "max_position_embeddings": config.text.context},
        "multimodal_config": _sizes(config.fusion, "flava_multimodal_model"),
        "dtype": "float32",
    }
    if isinstance(codes, DalleCodes):
        encoder = codes.encoder
        sizes = {"hidden_size": encoder.width, "num_blocks_per_group": encoder.blocks, "vocab_size": encoder.vocabulary}
        plain["image_codebook_config"] = {"model_type": "flava_codebook", **sizes}
    return plain


def _sizes(one: VisionConfig | TextConfig | FusionConfig, kind: str) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": one.width,
        "num_hidden_layers": one.depth,
        "num_attention_heads": one.heads,
        "intermediate_size": one.hidden,
        "hidden_act": activation_name(one.activation),
        "layer_norm_eps": one.eps,
    }
