"""Public two-tower folders, read: transformers' CLIPModel and SiglipModel, open_clip's CLIP and SigLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.capabilities.load import OPEN_CLIP_CONFIG
from diptych.core.errors import ConfigError
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _weight_tables as tables
from diptych.models._public_folder import activation, read_json, read_preprocessing, read_weights
from diptych.models.contrastive._open_clip import read_open_clip
from diptych.models.contrastive._public_towers import PublicTowers, processor_of


def read_clip(folder: Path) -> PublicTowers:
    """A CLIP of transformers or open_clip."""
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return read_open_clip(folder, siglip=False)
    return _transformers_clip(folder)


def read_siglip(folder: Path) -> PublicTowers:
    """A SigLIP of transformers or open_clip."""
    return (
        read_open_clip(folder, siglip=True) if (folder / OPEN_CLIP_CONFIG).is_file() else _transformers_siglip(folder)
    )


def _transformers_clip(folder: Path) -> PublicTowers:
    config = read_json(folder / "config.json")
    plain_text, plain_vision = _with_defaults(config, 512, 2048, 8), _vision_defaults(config, patch=32)
    vision = _vision(plain_vision, eps=1e-5, pooling="cls", act="quick_gelu", pre_norm=True, patch_bias=False)
    text = _text(plain_text, context=77, eps=1e-5, act="quick_gelu", causal=True)
    width = int(config.get("projection_dim", 512))
    entries = tables.transformers_clip(vision.depth, text.depth)
    public = _assembled(folder, vision, text, width, entries, read_weights(folder))
    _check_end(public.processor.tokenizer, plain_text.get("eos_token_id", 49407), folder)
    return public


def _check_end(tokenizer: Tokenizer, named: int, folder: Path) -> None:
    """CLIPModel reads a text at the first token of the configured id; id 2 is the old way to say "the highest"."""
    read_at = tokenizer.vocab_size - 1 if named == 2 else named
    if tokenizer.end_id != read_at:
        raise ConfigError(
            f"{folder}: its model reads texts at token {read_at}, its tokenizer ends them with {tokenizer.end_id}"
        )


def _transformers_siglip(folder: Path) -> PublicTowers:
    config = read_json(folder / "config.json")
    plain_text, plain_vision = _with_defaults(config, 768, 3072, 12), _vision_defaults(config, patch=16)
    vision = _vision(plain_vision, eps=1e-6, pooling="map", act="gelu_pytorch_tanh", pre_norm=False, patch_bias=True)
    text = _text(plain_text, context=64, eps=1e-6, act="gelu_pytorch_tanh", causal=False)
    entries = tables.transformers_siglip(vision.depth, text.depth)
    return _assembled(folder, vision, text, vision.width, entries, read_weights(folder))


def _assembled(
    folder: Path,
    vision: VisionConfig,
    text: TextConfig,
    width: int,
    entries: list[tables.Entry],
    public: dict[str, Tensor],
) -> PublicTowers:
    image = read_preprocessing(folder, vision.image_size)
    return PublicTowers(vision, text, width, tables.read(entries, public, folder), processor_of(folder, image, text))


def _with_defaults(config: dict[str, Any], width: int, hidden: int, heads: int) -> dict[str, Any]:
    """The text tower's sizes: a config.json leaves out what equals the class's default."""
    sizes = {
        "vocab_size": 49408 if width == 512 else 32000,
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": 12,
        "num_attention_heads": heads,
    }
    given: dict[str, Any] = config.get("text_config", {})
    return sizes | given


def _vision_defaults(config: dict[str, Any], patch: int) -> dict[str, Any]:
    sizes = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": patch,
    }
    given: dict[str, Any] = config.get("vision_config", {})
    return sizes | given


def _vision(
    plain: dict[str, Any], *, eps: float, pooling: Any, act: str, pre_norm: bool, patch_bias: bool
) -> VisionConfig:
    return VisionConfig(
        image_size=plain["image_size"],
        patch_size=plain["patch_size"],
        width=plain["hidden_size"],
        depth=plain["num_hidden_layers"],
        heads=plain["num_attention_heads"],
        hidden=plain["intermediate_size"],
        pooling=pooling,
        pre_norm=pre_norm,
        patch_bias=patch_bias,
        activation=activation(plain.get("hidden_act", act)),
        eps=plain.get("layer_norm_eps", eps),
    )


def _text(plain: dict[str, Any], *, context: int, eps: float, act: str, causal: bool) -> TextConfig:
    return TextConfig(
        vocab_size=plain["vocab_size"],
        context=plain.get("max_position_embeddings", context),
        width=plain["hidden_size"],
        depth=plain["num_hidden_layers"],
        heads=plain["num_attention_heads"],
        hidden=plain["intermediate_size"],
        causal=causal,
        padding="ignored" if causal else "constant",
        activation=activation(plain.get("hidden_act", act)),
        eps=plain.get("layer_norm_eps", eps),
    )
