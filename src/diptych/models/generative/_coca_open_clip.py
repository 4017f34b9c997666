"""open_clip's folders of CoCa: their configuration and which of their weights is which of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from diptych.capabilities.load import OPEN_CLIP_CONFIG
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.vision_transformer import VisionConfig
from diptych.models._open_clip_tables import open_clip_vision
from diptych.models._public_folder import read_json
from diptych.models._weight_tables import Entry, both
from diptych.models.contrastive._open_clip import open_clip_preprocessing, vision_of
from diptych.models.generative._coca_module import Config, DecoderConfig

_VISION = {"pool_type": ("tok",), "attentional_pool": (True, "parallel", "cascade"), "final_ln_after_pool": (False,)}
WEIGHTS = "open_clip_model"
EPS = 1e-5
"""Of every norm of open_clip's decoder."""


def read_config(folder: Path) -> Config:
    """Our configuration of a folder.

    Raises:
        ConfigError: its architecture has a part that is not here.
    """
    model = read_json(folder / OPEN_CLIP_CONFIG)["model_cfg"]
    plain, upper = model["text_cfg"], model["multimodal_cfg"]
    if model.get("quick_gelu", False):
        raise ConfigError("open_clip's CoCa with QuickGELU is not here: its decoder's MLPs have GELU")
    if not plain.get("embed_cls", False) or plain.get("correct_cls_mask", False):
        raise ConfigError("this CoCa reads a text otherwise than at a learned token under open_clip's first mask")
    if plain.get("width", 512) != upper.get("width", 512) or plain.get("heads", 8) != upper.get("heads", 8):
        raise ConfigError("both halves of CoCa's decoder are of one width here, with as many heads")
    vision = vision_of(model, _VISION)
    assert isinstance(vision, VisionConfig)
    pooling = model["vision_cfg"].get("attentional_pool", True)
    text = DecoderConfig(
        vocab_size=plain.get("vocab_size", 49408),
        context=plain.get("context_length", 77) + 1,  # one more place, for the learned token
        width=plain.get("width", 512),
        lower=plain.get("layers", 12),
        upper=upper.get("layers", 12),
        heads=plain.get("heads", 8),
        hidden=int(plain.get("width", 512) * plain.get("mlp_ratio", 4.0)),
        pad_id=plain.get("pad_id", 0),
    )
    queries = int(model["vision_cfg"].get("attn_pooler_queries", 256))
    return Config(
        vision,
        text,
        width=int(model["embed_dim"]),
        queries=queries - 1 if pooling is True else queries,
        pool_heads=int(model["vision_cfg"].get("attn_pooler_heads", 8)),
        pooling="shared" if pooling is True else pooling,
        text_end="open_clip",
        reads_apart=True,
    )


def read_processor(folder: Path, config: Config) -> ImageTextProcessor:
    """The preprocessing and the tokenizer of a folder; every text is padded to the longest."""
    plain = read_json(folder / OPEN_CLIP_CONFIG)
    image = open_clip_preprocessing(plain.get("preprocess_cfg", {}), config.vision.image_size)
    tokenizer = Tokenizer.from_folder(folder)
    padded = Tokenizer(tokenizer.backend, tokenizer.start_id, tokenizer.end_id, config.text.pad_id)
    words = TextPreprocessing(config.text.context - 1, pad_to_max=True)
    return ImageTextProcessor(ImageTextConfig(image, words), padded)


def unpacked(public: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with stacked queries, keys and values of the decoder and the poolers as two tensors: "q" and "kv"."""
    found: dict[str, Tensor] = {}
    for name, tensor in public.items():
        owner, _, kind = name.rpartition(".attn.")
        if kind in ("in_proj_weight", "in_proj_bias") and not owner.startswith("visual.transformer."):
            width = len(tensor) // 3
            what = kind.removeprefix("in_proj_")
            found[f"{owner}.attn.q.{what}"], found[f"{owner}.attn.kv.{what}"] = tensor[:width], tensor[width:]
        elif kind == "q_proj_weight":
            found[f"{owner}.attn.q.weight"] = tensor
        elif kind == "k_proj_weight":
            found[f"{owner}.attn.kv.weight"] = torch.cat([tensor, public[f"{owner}.attn.v_proj_weight"]])
        elif kind != "v_proj_weight":
            found[name] = tensor
    return found


def entries(config: Config) -> list[Entry]:
    """Which of our tensors is which unpacked one."""
    shared = config.pooling == "shared"
    table = [
        Entry("log_scale", ("logit_scale",)),
        *open_clip_vision(config.vision.depth, "pool_norm" if shared else "vision.norm_post"),
        *_pool("caption_pool", "visual.attn_pool"),
        *([] if shared else _pool("contrast_pool", "visual.attn_pool_contrastive")),
        Entry("embedding.weight", ("text.token_embedding.weight",)),
        Entry("positions_TD", ("text.positional_embedding",)),
        Entry("end_D", ("text.cls_emb",)),
        *both("text_norm", "text.ln_final"),
        Entry("text_head.weight", ("text.text_projection",), transpose=True),
        *both("upper.norm", "text_decoder.ln_final"),
        Entry("word_head.weight", ("text_decoder.text_projection",), transpose=True),
    ]
    for index in range(config.text.lower):
        table += _block(f"lower.blocks.{index}", f"text.transformer.resblocks.{index}", "mlp")
    for index in range(config.text.upper):
        ours = f"upper.blocks.{index}"
        read = f"text_decoder.cross_attn.{index}"
        table += [
            *_block(ours, f"text_decoder.resblocks.{index}", "first_mlp"),
            *_attention(f"{ours}.memory", f"{read}.attn"),
            *both(f"{ours}.memory_norm", f"{read}.ln_1"),
            *both(f"{ours}.read_norm", f"{read}.ln_1_kv"),
            *_mlp(ours, read, "mlp"),
        ]
    return table


def _block(ours: str, theirs: str, mlp: str) -> Iterable[Entry]:
    """A block of self-attention and an MLP."""
    return [
        *_attention(f"{ours}.attention", f"{theirs}.attn"),
        *both(f"{ours}.attention_norm", f"{theirs}.ln_1"),
        *_mlp(ours, theirs, mlp),
    ]


def _mlp(ours: str, theirs: str, mlp: str) -> list[Entry]:
    return [
        *both(f"{ours}.{mlp}_norm", f"{theirs}.ln_2"),
        *both(f"{ours}.{mlp}.up", f"{theirs}.mlp.c_fc"),
        *both(f"{ours}.{mlp}.down", f"{theirs}.mlp.c_proj"),
    ]


def _attention(ours: str, theirs: str) -> list[Entry]:
    return [
        *both(f"{ours}.query", f"{theirs}.q"),
        *both(f"{ours}.key_value", f"{theirs}.kv"),
        *both(f"{ours}.out", f"{theirs}.out_proj"),
    ]


def _pool(ours: str, theirs: str) -> list[Entry]:
    return [
        Entry(f"{ours}.queries_QD", (f"{theirs}.query",)),
        *both(f"{ours}.query_norm", f"{theirs}.ln_q"),
        *both(f"{ours}.context_norm", f"{theirs}.ln_k"),
        *_attention(f"{ours}.attention", f"{theirs}.attn"),
    ]
