"""Public two-tower folders, read: transformers' CLIPModel and SiglipModel, open_clip's CLIP and SigLIP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.capabilities.load import OPEN_CLIP_CONFIG
from diptych.core.errors import CheckpointError, ConfigError
from diptych.data.image_text import ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.images import CLIP_MEAN, CLIP_STD, ImagePreprocessing
from diptych.data.text import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.transformer import Activation
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _weight_tables as tables
from diptych.models._public_folder import activation, read_json, read_preprocessing, read_weights
from diptych.models.contrastive._two_towers import TwoTowers


@dataclass(frozen=True)
class PublicTowers:
    """What a folder holds, in our terms.

    Attributes:
        width: of the joint space.
        state: our state dict.
    """

    vision: VisionConfig
    text: TextConfig
    width: int
    state: dict[str, Tensor]
    processor: ImageTextProcessor

    def fill(self, module: TwoTowers, where: Path) -> None:
        """Loads the weights strictly.

        Raises:
            CheckpointError: a weight has another shape than the folder's configuration says.
        """
        expected = module.state_dict()
        wrong = [name for name in expected if expected[name].shape != self.state[name].shape]
        if wrong:
            raise CheckpointError(f"{where}: the weight {wrong[0]} is not of the shape its configuration says")
        module.load_state_dict(self.state)
        module.eval()


def read_clip(folder: Path) -> PublicTowers:
    """A CLIP of transformers or open_clip."""
    return _open_clip(folder, siglip=False) if (folder / OPEN_CLIP_CONFIG).is_file() else _transformers_clip(folder)


def read_siglip(folder: Path) -> PublicTowers:
    """A SigLIP of transformers or open_clip."""
    return _open_clip(folder, siglip=True) if (folder / OPEN_CLIP_CONFIG).is_file() else _transformers_siglip(folder)


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
    return PublicTowers(vision, text, width, tables.read(entries, public, folder), _processor(folder, image, text))


def _processor(folder: Path, image: ImagePreprocessing, text: TextConfig) -> ImageTextProcessor:
    path = folder / "tokenizer_config.json"
    limit = read_json(path).get("model_max_length", text.context) if path.is_file() else text.context
    words = TextPreprocessing(int(min(limit, text.context)), pad_to_max=text.padding == "constant")
    return ImageTextProcessor(ImageTextConfig(image, words), Tokenizer.from_folder(folder))


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


def _open_clip(folder: Path, siglip: bool) -> PublicTowers:
    plain = read_json(folder / OPEN_CLIP_CONFIG)
    model, preprocess = plain["model_cfg"], plain.get("preprocess_cfg", {})
    public = read_weights(folder, stem="open_clip_model", legacy="open_clip_pytorch_model.bin")
    vision = _open_clip_siglip_vision(model, public) if siglip else _open_clip_vision(model)
    text = _open_clip_text(model, siglip)
    table = tables.open_clip_siglip if siglip else tables.open_clip_clip
    state = tables.read(table(vision.depth, text.depth), public, folder)
    image = ImagePreprocessing(
        size=vision.image_size,
        resize="squash" if preprocess.get("resize_mode") == "squash" else "shorter_crop",
        mean=tuple(preprocess.get("mean", CLIP_MEAN)),
        std=tuple(preprocess.get("std", CLIP_STD)),
        kernel=preprocess.get("interpolation", "bicubic"),
    )
    return PublicTowers(vision, text, int(model["embed_dim"]), state, _processor(folder, image, text))


def _open_clip_vision(model: dict[str, Any]) -> VisionConfig:
    plain = model["vision_cfg"]
    if isinstance(plain.get("layers"), list):
        raise ConfigError("this open_clip checkpoint has a ResNet tower, which is not here: vision transformers are")
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
        activation=Activation.QUICK_GELU if model.get("quick_gelu", False) else Activation.GELU,
        eps=1e-5,
    )


def _open_clip_siglip_vision(model: dict[str, Any], public: dict[str, Tensor]) -> VisionConfig:
    """The vision tower is named by its timm architecture; its sizes are those of its weights."""
    patch = public["visual.trunk.patch_embed.proj.weight"]
    depth = 1 + max(int(name.split(".")[3]) for name in public if name.startswith("visual.trunk.blocks."))
    width = int(patch.shape[0])
    return VisionConfig(
        image_size=model["vision_cfg"].get("image_size", 224),
        patch_size=int(patch.shape[-1]),
        width=width,
        depth=depth,
        heads=width // 64,  # timm's SigLIP towers all have heads of 64
        hidden=int(public["visual.trunk.blocks.0.mlp.fc1.weight"].shape[0]),
        pooling="map",
        activation=Activation.GELU,
        eps=1e-6,
    )


def _open_clip_text(model: dict[str, Any], siglip: bool) -> TextConfig:
    plain = model["text_cfg"]
    width = int(plain.get("width", 512))
    quick = model.get("quick_gelu", False)
    tanh = plain.get("act_kwargs", {}).get("approximate") == "tanh"
    return TextConfig(
        vocab_size=plain.get("vocab_size", 49408),
        context=plain.get("context_length", 77),
        width=width,
        depth=plain.get("layers", 12),
        heads=plain.get("heads", 8),
        hidden=int(width * plain.get("mlp_ratio", 4.0)),
        causal=not plain.get("no_causal_mask", False),
        padding="constant" if siglip else "ignored",
        activation=Activation.QUICK_GELU if quick else Activation.GELU_TANH if tanh else Activation.GELU,
        eps=float(plain.get("norm_kwargs", {}).get("eps", 1e-5)),
    )
