"""CoCa written as open_clip's folder, for a model that is built as open_clip's is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from diptych.capabilities.card import CARD, begun
from diptych.capabilities.load import OPEN_CLIP_CONFIG
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.transformer import Activation
from diptych.models import _weight_tables as tables
from diptych.models._public_folder import write_json
from diptych.models.generative._coca_module import Coca, Config
from diptych.models.generative._coca_open_clip import EPS, WEIGHTS, entries

_USAGE = """
```python
import open_clip
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:this/folder")
tokenizer = open_clip.get_tokenizer("local-dir:this/folder")
text_features = model.encode_text(tokenizer(["a text"]))
```

On the hub, `hf_tokenizer_name` in `open_clip_config.json` is to be the repository's own name.
"""


def write_folder(module: Coca, processor: ImageTextProcessor, name: str, folder: Path) -> None:
    """Weights, configuration, preprocessing, tokenizer, card.

    Raises:
        ConfigError: the model is not built as open_clip's CoCa.
    """
    config = module.config
    _check(config)
    state = {key: one.detach().cpu().float() for key, one in module.state_dict().items()}
    save_file(
        packed(tables.write(entries(config), state)), folder / f"{WEIGHTS}.safetensors", metadata={"format": "pt"}
    )
    model = _model(config) | {"custom_text": True}
    model["text_cfg"]["hf_tokenizer_name"] = name
    write_json(
        folder / OPEN_CLIP_CONFIG, {"model_cfg": model, "preprocess_cfg": _preprocessing(processor.config.image)}
    )
    processor.tokenizer.write(folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", _tokenizer(processor.tokenizer, processor.config.text.max_length))
    count = sum(one.numel() for one in module.parameters())
    card = begun(name, "CoCa", count, "open_clip", _USAGE, "zero-shot-image-classification")
    (folder / CARD).write_text(card, encoding="utf-8")


def _check(config: Config) -> None:
    """Refuses what open_clip's CoCa cannot be told, by the names of the options."""
    vision, text = config.vision, config.text
    asked = {
        "text_end open_clip": config.text_end == "open_clip",
        "reads_apart": config.reads_apart,
        f"width {text.width}": config.width == text.width,
        f"text.hidden {4 * text.width}": text.hidden == 4 * text.width,
        f"text.eps {EPS}": text.eps == EPS,
        "vision.pooling cls": vision.pooling == "cls",
        "vision.class_tokens 1": vision.class_tokens == 1,
        "vision.pre_norm": vision.pre_norm,
        "vision.no-patch_bias": not vision.patch_bias,
        f"vision.activation {Activation.GELU.name}": vision.activation is Activation.GELU,
        f"vision.eps {EPS}": vision.eps == EPS,
        "vision.backbone_channels 0": vision.backbone_channels == 0,
        # open_clip's norm before two poolers has the width of what comes after them
        f"vision.width {text.width}": config.pooling == "shared" or vision.width == text.width,
    }
    if other := [f"--model.{option}" for option, met in asked.items() if not met]:
        raise ConfigError(
            f"open_clip's CoCa is built otherwise: to be shared, a model is trained with {' '.join(other)}"
        )


def packed(unpacked: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With queries, keys and values stacked as `nn.MultiheadAttention` has them: the reverse of `unpacked`."""
    public: dict[str, Tensor] = {}
    for name, tensor in unpacked.items():
        owner, mark, kind = name.rpartition(".attn.")
        if not mark or not kind.startswith(("q.", "kv.")):
            public[name] = tensor
        elif kind.startswith("q."):
            what = kind.removeprefix("q.")
            both = unpacked[f"{owner}.attn.kv.{what}"]
            if what == "weight" and tensor.shape[1] != both.shape[1]:
                key, value = both.chunk(2)
                public |= {
                    f"{owner}.attn.{side}_proj_weight": one.contiguous()
                    for side, one in zip("qkv", (tensor, key, value), strict=True)
                }
            else:
                public[f"{owner}.attn.in_proj_{what}"] = torch.cat([tensor, both])
    return public


def _model(config: Config) -> dict[str, Any]:
    vision, text, shared = config.vision, config.text, config.pooling == "shared"
    words = {
        "context_length": text.context - 1,
        "vocab_size": text.vocab_size,
        "width": text.width,
        "heads": text.heads,
    }
    return {
        "embed_dim": config.width,
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.width,
            "head_width": vision.width // vision.heads,
            "layers": vision.depth,
            "mlp_ratio": vision.hidden / vision.width,
            "attentional_pool": True if shared else config.pooling,
            "attn_pooler_queries": config.queries + shared,
            "attn_pooler_heads": config.pool_heads,
            "output_tokens": True,
        },
        "text_cfg": words | {"layers": text.lower, "embed_cls": True, "output_tokens": True, "pad_id": text.pad_id},
        "multimodal_cfg": words | {"layers": text.upper, "attn_pooler_heads": config.pool_heads},
    }


def _preprocessing(image: ImagePreprocessing) -> dict[str, Any]:
    return {
        "size": [image.size, image.size],
        "mode": "RGB",
        "mean": list(image.mean),
        "std": list(image.std),
        "interpolation": image.kernel,
        "resize_mode": "shortest" if image.resize == "shorter_crop" else "squash",
    }


def _tokenizer(tokens: Tokenizer, longest: int) -> dict[str, Any]:
    named = {"bos_token": tokens.start_id, "eos_token": tokens.end_id, "pad_token": tokens.pad_id}
    spelled = {role: tokens.backend.id_to_token(index) for role, index in named.items() if index is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, **spelled}
