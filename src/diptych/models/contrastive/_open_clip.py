"""open_clip's folders: its CLIP, and its SigLIP, whose vision tower is one of timm's."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, normalizers
from torch import Tensor

from diptych.capabilities.load import OPEN_CLIP_CONFIG
from diptych.core.errors import ConfigError
from diptych.data.pixels.images import CLIP_MEAN, CLIP_STD, ImagePreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.modified_resnet import ResNetConfig
from diptych.layers.text_transformer import TextConfig
from diptych.layers.transformer import Activation
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _open_clip_tables as tables
from diptych.models import _weight_tables
from diptych.models._public_folder import read_json, read_weights
from diptych.models.contrastive._public_towers import PublicTowers, processor_of

_VISION_AS_HERE = {"pool_type": ("tok",), "attentional_pool": (False,), "final_ln_after_pool": (False,)}
_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
"""Of timm's SigLIP towers; the widths of the heads differ, and weights do not tell."""
_EXACT_GELU = (
    "vit_base_patch16_", "vit_large_patch16_siglip_256", "vit_large_patch16_siglip_384", "vit_so400m_patch14_",
)  # fmt: skip
"""timm's SigLIP towers without the tanh approximation, by how their names begin (timm 1.0.31)."""
_PUNCTUATION = f"[{re.escape(string.punctuation)}]"


def read_open_clip(folder: Path, siglip: bool) -> PublicTowers:
    """A folder with an `open_clip_config.json`.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: its architecture has a part that is not here.
    """
    plain = read_json(folder / OPEN_CLIP_CONFIG)
    model = plain["model_cfg"]
    public = read_weights(folder, stem="open_clip_model", legacy="open_clip_pytorch_model.bin")
    vision = _timm_vision(model, public) if siglip else vision_of(model, _VISION_AS_HERE)
    text = _text(model, siglip)
    state = _weight_tables.read(_table(vision, text, siglip), public, folder)
    image = open_clip_preprocessing(plain.get("preprocess_cfg", {}), vision.image_size)
    processor = processor_of(folder, image, text)
    if model["text_cfg"].get("tokenizer_kwargs", {}).get("clean") == "canonicalize":
        _canonicalise(processor.tokenizer)
    return PublicTowers(vision, text, int(model["embed_dim"]), state, processor)


def open_clip_preprocessing(plain: Mapping[str, Any], image_size: int) -> ImagePreprocessing:
    """How a folder prepares pictures.

    Raises:
        ConfigError: in a way that is not done here.
    """
    _check(plain, {"resize_mode": ("shortest", "squash"), "interpolation": ("bicubic", "bilinear")})
    return ImagePreprocessing(
        size=image_size,
        resize="squash" if plain.get("resize_mode") == "squash" else "shorter_crop",
        mean=tuple(plain.get("mean", CLIP_MEAN)),
        std=tuple(plain.get("std", CLIP_STD)),
        kernel=plain.get("interpolation", "bicubic"),
    )


def _table(vision: VisionConfig | ResNetConfig, text: TextConfig, siglip: bool) -> list[_weight_tables.Entry]:
    if isinstance(vision, ResNetConfig):
        return tables.open_clip_resnet_clip(vision.blocks, text.depth)
    table = tables.open_clip_siglip if siglip else tables.open_clip_clip
    return table(vision.depth, text.depth)


def vision_of(model: Mapping[str, Any], as_here: Mapping[str, tuple[Any, ...]]) -> VisionConfig | ResNetConfig:
    """The vision tower of a `model_cfg`.

    Args:
        as_here: switches that leave no trace in the weights, with the values that are done here.

    Raises:
        ConfigError: it is timm's, or a switch has another value.
    """
    plain = model["vision_cfg"]
    if "timm_model_name" in plain:
        raise ConfigError(
            "this open_clip CLIP has timm's tower, which is not here: its own vision transformers and ResNets are"
        )
    if isinstance(plain.get("layers"), list):
        return _resnet(plain)
    _check(plain, as_here)
    width = int(plain.get("width", 768))
    return VisionConfig(
        image_size=plain.get("image_size", 224),
        patch_size=plain.get("patch_size", 16),
        width=width,
        depth=plain.get("layers", 12),
        heads=width // int(plain.get("head_width", 64)),
        hidden=int(width * plain.get("mlp_ratio", 4.0)),
        pre_norm=True,
        patch_bias=False,
        activation=_activation(model, plain),
        eps=_eps(plain),
    )


def _resnet(plain: Mapping[str, Any]) -> ResNetConfig:
    stem = int(plain.get("width", 768))
    one, two, three, four = (int(count) for count in plain["layers"])
    heads = stem * 32 // int(plain.get("head_width", 64))
    return ResNetConfig(plain.get("image_size", 224), stem, (one, two, three, four), heads)


def _timm_vision(model: Mapping[str, Any], public: Mapping[str, Tensor]) -> VisionConfig:
    """The vision tower is named by its timm architecture; its sizes are those of its weights."""
    name = str(model["vision_cfg"].get("timm_model_name"))
    heads = next((heads for size, heads in _HEADS.items() if name.startswith(f"vit_{size}_patch")), None)
    if heads is None or "_siglip_" not in name or "_gap_" in name:
        raise ConfigError(f"timm's tower {name} is not here; its SigLIP towers are: vit_base_patch16_siglip_224 ...")
    patch = public["visual.trunk.patch_embed.proj.weight"]
    exact = name.startswith(_EXACT_GELU)
    return VisionConfig(
        image_size=model["vision_cfg"].get("image_size", 224),
        patch_size=int(patch.shape[-1]),
        width=int(patch.shape[0]),
        depth=1 + max(int(key.split(".")[3]) for key in public if key.startswith("visual.trunk.blocks.")),
        heads=heads,
        hidden=int(public["visual.trunk.blocks.0.mlp.fc1.weight"].shape[0]),
        pooling="map",
        activation=Activation.GELU if exact else Activation.GELU_TANH,
        eps=1e-6,
    )


def _text(model: Mapping[str, Any], siglip: bool) -> TextConfig:
    plain = model["text_cfg"]
    _check(plain, {"pool_type": ("last",) if siglip else ("argmax", "eos")})
    width = int(plain.get("width", 512))
    return TextConfig(
        vocab_size=plain.get("vocab_size", 49408),
        context=plain.get("context_length", 77),
        width=width,
        depth=plain.get("layers", 12),
        heads=plain.get("heads", 8),
        hidden=int(width * plain.get("mlp_ratio", 4.0)),
        causal=not plain.get("no_causal_mask", False),
        padding="constant" if siglip else "ignored",
        activation=_activation(model, plain),
        eps=_eps(plain),
    )


def _check(plain: Mapping[str, Any], taken: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses a switch that leaves no trace in the weights and is not done here."""
    for name, values in taken.items():
        if plain.get(name, values[0]) not in values:
            raise ConfigError(f"open_clip's {name} = {plain[name]!r} is not done here: {values[0]!r} is")


def _activation(model: Mapping[str, Any], plain: Mapping[str, Any]) -> Activation:
    if model.get("quick_gelu", False):
        return Activation.QUICK_GELU
    tanh = (plain.get("act_kwargs") or {}).get("approximate") == "tanh"
    return Activation.GELU_TANH if tanh else Activation.GELU


def _eps(plain: Mapping[str, Any]) -> float:
    return float((plain.get("norm_kwargs") or {}).get("eps", 1e-5))


def _canonicalise(tokenizer: Tokenizer) -> None:
    """open_clip prepares SigLIP's texts before its tokenizer: no punctuation, lower case, single spaces."""
    steps = [
        normalizers.Replace("_", " "),
        normalizers.Replace(Regex(_PUNCTUATION), ""),
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    own = tokenizer.backend.normalizer
    tokenizer.backend.normalizer = normalizers.Sequence([*steps, *([own] if own is not None else [])])
