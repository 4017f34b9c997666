"""Two-tower models written as `transformers` folders, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from diptych.capabilities.card import CARD, UNSAID
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _weight_tables as tables
from diptych.models._public_folder import activation_name, write_json, write_preprocessing
from diptych.models.contrastive._two_towers import TwoTowerPredictor


def write_clip(predictor: TwoTowerPredictor, folder: Path, vision: VisionConfig, text: TextConfig, width: int) -> None:
    """A CLIPModel folder.

    Raises:
        ConfigError: a switch that CLIPModel does not have.
    """
    if vision.pooling != "cls" or not vision.pre_norm or vision.patch_bias or not text.causal:
        raise ConfigError("transformers' CLIPModel has a class token, a norm before its blocks, and causal text only")
    tokens = predictor.processor.tokenizer
    if tokens.end_id == 2 != tokens.vocab_size - 1:
        raise ConfigError('transformers\' CLIPModel takes an end token of id 2 for "the highest id", which this is not')
    ids = _token_ids(predictor.processor)
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": width,
        "logit_scale_init_value": float(predictor.module.get_parameter("log_scale").detach()),
        "text_config": _text(text, "clip_text_model") | {"projection_dim": width} | ids,
        "vision_config": _vision(vision, "clip_vision_model") | {"projection_dim": width},
    }
    entries = tables.transformers_clip(vision.depth, text.depth)
    _write(predictor, folder, config, entries, "CLIPImageProcessor")


def write_siglip(predictor: TwoTowerPredictor, folder: Path, vision: VisionConfig, text: TextConfig) -> None:
    """A SiglipModel folder.

    Raises:
        ConfigError: a switch that SiglipModel does not have.
    """
    if text.causal or vision.pooling != "map" or vision.pre_norm or not vision.patch_bias:
        raise ConfigError(
            "transformers' SiglipModel has attention pooling, patches with a bias, no norm before its blocks, "
            "and bidirectional text only"
        )
    if text.padding != "constant":
        raise ConfigError(
            "transformers' SiglipModel reads padding as text, and this model was trained to ignore it: "
            "train it with --model.text.padding constant"
        )
    config = {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "text_config": _text(text, "siglip_text_model")
        | {"projection_size": vision.width}
        | _token_ids(predictor.processor),
        "vision_config": _vision(vision, "siglip_vision_model"),
    }
    entries = tables.transformers_siglip(vision.depth, text.depth)
    _write(predictor, folder, config, entries, "SiglipImageProcessor")


def _write(
    predictor: TwoTowerPredictor, folder: Path, config: dict[str, Any], entries: list[tables.Entry], processor: str
) -> None:
    state = {name: tensor.detach().cpu() for name, tensor in predictor.module.state_dict().items()}
    save_file(tables.write(entries, state), folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config | {"dtype": "float32"})
    settings = predictor.processor.config
    write_json(folder / "preprocessor_config.json", write_preprocessing(settings.image, processor))
    predictor.processor.tokenizer.write(folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", _tokenizer(predictor.processor))
    (folder / CARD).write_text(_card(predictor, config), encoding="utf-8")


def _text(text: TextConfig, kind: str) -> dict[str, Any]:
    return {
        "model_type": kind,
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context,
        "hidden_size": text.width,
        "num_hidden_layers": text.depth,
        "num_attention_heads": text.heads,
        "intermediate_size": text.hidden,
        "hidden_act": activation_name(text.activation),
        "layer_norm_eps": text.eps,
    }


def _vision(vision: VisionConfig, kind: str) -> dict[str, Any]:
    return {
        "model_type": kind,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "hidden_size": vision.width,
        "num_hidden_layers": vision.depth,
        "num_attention_heads": vision.heads,
        "intermediate_size": vision.hidden,
        "hidden_act": activation_name(vision.activation),
        "layer_norm_eps": vision.eps,
    }


def _token_ids(processor: ImageTextProcessor) -> dict[str, int | None]:
    tokens = processor.tokenizer
    return {"bos_token_id": tokens.start_id, "eos_token_id": tokens.end_id, "pad_token_id": tokens.pad_id}


def _tokenizer(processor: ImageTextProcessor) -> dict[str, Any]:
    tokens = processor.tokenizer
    named = {"eos_token": tokens.end_id, "pad_token": tokens.pad_id, "bos_token": tokens.start_id}
    spelled = {role: tokens.backend.id_to_token(index) for role, index in named.items() if index is not None}
    text = processor.config.text
    inputs = {"model_input_names": ["input_ids"]} if text.pad_to_max else {}  # no mask where padding is read
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": text.max_length, **inputs, **spelled}


def _card(predictor: TwoTowerPredictor, config: dict[str, Any]) -> str:
    architecture = config["architectures"][0]
    count = sum(p.numel() for p in predictor.module.parameters())
    constant = predictor.processor.config.text.pad_to_max
    padding = 'padding="max_length"' if constant else "padding=True"
    attention = "" if constant else ", attention_mask=batch.attention_mask"
    return f"""---
library_name: transformers
pipeline_tag: zero-shot-image-classification
---
# {predictor.name}

A `{architecture}` of {count:,} parameters, written by diptych.

```python
from transformers import AutoTokenizer, {architecture}
model = {architecture}.from_pretrained("this/folder")
tokenizer = AutoTokenizer.from_pretrained("this/folder")
batch = tokenizer(["a text"], {padding}, return_tensors="pt")
text_features = model.get_text_features(batch.input_ids{attention}).pooler_output
```

Pictures: {predictor.processor.config.image.size} pixels, geometry and normalisation as in `preprocessor_config.json`.
{UNSAID}
"""
