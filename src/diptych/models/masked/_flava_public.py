"""transformers' FlavaForPreTraining folders, read.

Poolers of the encoders, which no loss and no verb reads, are left out; the embedding of the one kind of segment there
is goes into the positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.core.errors import CheckpointError, ConfigError
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.dalle_encoder import DalleConfig
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _weight_tables as tables
from diptych.models._public_folder import activation, read_json, read_preprocessing, read_weights
from diptych.models.masked._flava_codes import Codes, DalleCodes, GivenCodes
from diptych.models.masked._flava_encoders import FusionConfig
from diptych.models.masked._flava_module import Flava, FlavaSizes
from diptych.models.masked._flava_table import flava_entries

_POOLERS = tuple(f"flava.{side}_model.pooler." for side in ("image", "text", "multimodal"))
_HEADS = ("mim_head", "mlm_head", "mmm_image_head", "mmm_text_head")
_SIZES = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12,
}  # fmt: skip
_IMAGE = {"image_size": 224, "patch_size": 16, "vocab_size": 8192}
_TEXT = {"vocab_size": 30522, "max_position_embeddings": 512}
_CODEBOOK = {"hidden_size": 256, "num_blocks_per_group": 2, "vocab_size": 8192}


@dataclass(frozen=True)
class PublicFlava:
    """What a folder holds, in our terms."""

    config: FlavaSizes
    state: dict[str, Tensor]
    processor: ImageTextProcessor

    def fill(self, module: Flava, where: Path) -> None:
        """Loads the weights strictly.

        Raises:
            CheckpointError: a weight has another shape than the folder's configuration says.
        """
        tables.load_into(module, self.state, where)


def read_flava(folder: Path) -> PublicFlava:
    """Configuration, weights, preprocessing and tokenizer of a folder."""
    plain = read_json(folder / "config.json")
    config = _config(plain)
    blocks = config.codes.encoder.blocks if isinstance(config.codes, DalleCodes) else 0
    entries = flava_entries(config.vision.depth, config.text.depth, config.fusion.depth, blocks)
    state = tables.read(entries, simplified(read_weights(folder), folder), folder)
    image = read_preprocessing(folder, config.vision.image_size)
    settings = ImageTextConfig(image, TextPreprocessing(_longest(folder, config.text.context)))
    return PublicFlava(config, state, ImageTextProcessor(settings, Tokenizer.from_folder(folder)))


def _config(plain: dict[str, Any]) -> FlavaSizes:
    image = {**_SIZES, **_IMAGE, **(plain.get("image_config") or {})}
    text = {**_SIZES, **_TEXT, **(plain.get("text_config") or {})}
    fusion = {**_SIZES, "num_hidden_layers": 6, **(plain.get("multimodal_config") or {})}
    if not fusion.get("use_cls_token", True):
        raise ConfigError("this FLAVA fuses without a class token of its own, which is not done here")
    vision = VisionConfig(
        image["image_size"], image["patch_size"], *_four(image),
        activation=activation(image["hidden_act"]), eps=image["layer_norm_eps"],
    )  # fmt: skip
    words = TextConfig(
        text["vocab_size"], text["max_position_embeddings"], *_four(text), causal=False,
        activation=activation(text["hidden_act"]), eps=text["layer_norm_eps"],
    )  # fmt: skip
    joint = FusionConfig(*_four(fusion), activation=activation(fusion["hidden_act"]), eps=fusion["layer_norm_eps"])
    return FlavaSizes(vision, words, joint, int(plain.get("projection_dim", 768)), _codes(plain, image, vision))


def _codes(plain: dict[str, Any], image: dict[str, Any], vision: VisionConfig) -> Codes:
    if not plain.get("init_codebook", True):
        return GivenCodes(image["vocab_size"])
    found = {**_CODEBOOK, **(plain.get("image_codebook_config") or {})}
    encoder = DalleConfig(found["hidden_size"], found["num_blocks_per_group"], found["vocab_size"])
    if encoder.vocabulary != image["vocab_size"]:
        raise ConfigError(
            f"the codebook has {encoder.vocabulary} codes, and the heads that predict them {image['vocab_size']}"
        )
    return DalleCodes(encoder, vision.grid * 8)


def _four(plain: dict[str, Any]) -> tuple[int, int, int, int]:
    return (
        plain["hidden_size"],
        plain["num_hidden_layers"],
        plain["num_attention_heads"],
        plain["intermediate_size"],
    )


def simplified(public: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The folder's weights without poolers, with each head's bias once, and with segments folded into positions."""
    left = {name: rows for name, rows in public.items() if not name.startswith(_POOLERS)}
    for head in _HEADS:
        bias = left.pop(f"{head}.bias", None)  # one tensor under two names, of which a file may hold either
        if bias is not None:
            left.setdefault(f"{head}.decoder.bias", bias)
    kind = left.pop("flava.text_model.embeddings.token_type_embeddings.weight", None)
    places = "flava.text_model.embeddings.position_embeddings.weight"
    if kind is None or places not in left:
        raise CheckpointError(f"{where} lacks the embeddings of positions or segments of its text model")
    left[places] = left[places] + kind[0]
    return left


def _longest(folder: Path, context: int) -> int:
    path = folder / "tokenizer_config.json"
    limit = read_json(path).get("model_max_length") if path.is_file() else None
    return int(min(limit or context, context))
