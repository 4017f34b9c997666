"""transformers' VisualBertForPreTraining folders, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from diptych.capabilities.card import CARD, UNSAID
from diptych.core.errors import CheckpointError, ConfigError, DataError
from diptych.data.batches.image_text import TextPreprocessing
from diptych.data.batches.region_text import RegionTextConfig, RegionTextProcessor
from diptych.data.pixels.regions import RegionConfig
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.bert import BertConfig
from diptych.models import _weight_tables as tables
from diptych.models._public_folder import (
    activation,
    activation_name,
    bert_tokenizer,
    read_json,
    read_weights,
    write_json,
)
from diptych.models.early_fusion._visualbert_module import Config, VisualBert

LONGEST_TEXT = 128
"""Tokens of a text that public weights are given, as they were trained; fewer where they have fewer positions."""
_TIED = {
    "cls.predictions.decoder.weight": "visual_bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_OWN = ("regions.",)
"""Weights that VisualBertForPreTraining has no place for: its region features come from elsewhere."""


def transformers_visualbert(depth: int) -> list[tables.Entry]:
    """Which public weight is which of ours."""
    inside = "visual_bert.embeddings"
    pairs = {
        "words": "word_embeddings",
        "positions": "position_embeddings",
        "types": "token_type_embeddings",
        "region_types": "visual_token_type_embeddings",
        "region_positions": "visual_position_embeddings",
    }
    return [
        *(tables.Entry(f"embeddings.{ours}.weight", (f"{inside}.{theirs}.weight",)) for ours, theirs in pairs.items()),
        *tables.both("embeddings.projection", f"{inside}.visual_projection"),
        *tables.both("embeddings.norm", f"{inside}.LayerNorm"),
        *(entry for i in range(depth) for entry in _block(f"encoder.blocks.{i}", f"visual_bert.encoder.layer.{i}")),
        *tables.both("pooler", "visual_bert.pooler.dense"),
        *tables.both("word_head.dense", "cls.predictions.transform.dense"),
        *tables.both("word_head.norm", "cls.predictions.transform.LayerNorm"),
        tables.Entry("word_head.bias_V", ("cls.predictions.bias",)),
        *tables.both("match_head", "cls.seq_relationship"),
    ]


def _block(ours: str, theirs: str) -> list[tables.Entry]:
    sides = [f"{theirs}.attention.self.{side}" for side in ("query", "key", "value")]
    return [
        *(
            tables.Entry(f"{ours}.attention.qkv.{kind}", tuple(f"{side}.{kind}" for side in sides))
            for kind in ("weight", "bias")
        ),
        *tables.both(f"{ours}.attention.out", f"{theirs}.attention.output.dense"),
        *tables.both(f"{ours}.norm1", f"{theirs}.attention.output.LayerNorm"),
        *tables.both(f"{ours}.mlp.up", f"{theirs}.intermediate.dense"),
        *tables.both(f"{ours}.mlp.down", f"{theirs}.output.dense"),
        *tables.both(f"{ours}.norm2", f"{theirs}.output.LayerNorm"),
    ]


def read_config(folder: Path) -> Config:
    """The sizes that a folder's `config.json` names.

    Raises:
        CheckpointError: there is none.
        ConfigError: it asks for what is not done here.
    """
    plain = read_json(folder / "config.json")
    if plain.get("bypass_transformer", False):
        raise ConfigError(f"{folder}: bypass_transformer keeps regions out of the transformer, which is not done here")
    text = BertConfig(
        vocab_size=plain.get("vocab_size", 30522),
        context=plain.get("max_position_embeddings", 512),
        width=plain.get("hidden_size", 768),
        depth=plain.get("num_hidden_layers", 12),
        heads=plain.get("num_attention_heads", 12),
        hidden=plain.get("intermediate_size", 3072),
        types=plain.get("type_vocab_size", 2),
        activation=activation(plain.get("hidden_act", "gelu")),
        eps=plain.get("layer_norm_eps", 1e-12),
    )
    return Config(text, region_width=plain.get("visual_embedding_dim", 512))


def read_processor(folder: Path, config: Config) -> RegionTextProcessor:
    """The folder's tokenizer; pictures are nothing that public weights are given.

    Raises:
        CheckpointError: the folder has no tokenizer, or one of another vocabulary.
    """
    try:
        tokenizer = Tokenizer.from_folder(folder)
    except DataError as error:
        raise CheckpointError(
            f"{folder} has no tokenizer that can be read ({error}): put the tokenizer.json and tokenizer_config.json "
            f"of the BERT that it began as there (of bert-base-uncased, for the released weights)"
        ) from error
    if tokenizer.vocab_size > config.text.vocab_size:
        raise CheckpointError(
            f"{folder}: its tokenizer has {tokenizer.vocab_size} tokens, its weights {config.text.vocab_size}"
        )
    text = TextPreprocessing(min(LONGEST_TEXT, config.text.context))
    return RegionTextProcessor(RegionTextConfig(text=text, regions=RegionConfig()), tokenizer)


def fill(module: nn.Module, config: Config, folder: Path) -> None:
    """Loads the folder's weights.

    Raises:
        CheckpointError: a weight is missing, left over, of another shape, or a head that is not tied.
    """
    public = _untied(read_weights(folder), folder)
    state = tables.read(transformers_visualbert(config.text.depth), public, folder)
    if wrong := [name for name, tensor in module.state_dict().items() if tensor.shape != state[name].shape]:
        raise CheckpointError(f"{folder}: the weight {wrong[0]} is not of the shape its configuration says")
    module.load_state_dict(state)


def _untied(public: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Each tied weight once."""
    for copy, kept in _TIED.items():
        tensor = public.pop(copy, None)
        if tensor is not None and not torch.equal(public.setdefault(kept, tensor), tensor):
            raise CheckpointError(f"{folder}: {copy} is not {kept}: heads of their own are not read here")
    return public


def write(
    module: VisualBert, config: Config, processor: RegionTextProcessor, name: str, folder: Path
) -> None:  # fmt: skip
    """A VisualBertForPreTraining folder.

    Raises:
        ConfigError: the model embeds where regions lie, which VisualBertForPreTraining does not.
    """
    if config.box_geometry:
        raise ConfigError(
            "transformers' VisualBertForPreTraining embeds no box geometry: train with --model.no-box_geometry to "
            "export"
        )
    state = {
        name: tensor.detach().cpu() for name, tensor in module.state_dict().items() if not name.startswith(_OWN)
    }  # fmt: skip
    weights = tables.write(transformers_visualbert(config.text.depth), state)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _config(config, processor.tokenizer))
    processor.tokenizer.write(folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", bert_tokenizer(processor.tokenizer, processor.config.text.max_length))
    (folder / CARD).write_text(_card(module, config, name), encoding="utf-8")


def _config(config: Config, tokenizer: Tokenizer) -> dict[str, Any]:
    text = config.text
    return {
        "architectures": ["VisualBertForPreTraining"],
        "model_type": "visual_bert",
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context,
        "hidden_size": text.width,
        "num_hidden_layers": text.depth,
        "num_attention_heads": text.heads,
        "intermediate_size": text.hidden,
        "type_vocab_size": text.types,
        "hidden_act": activation_name(text.activation),
        "layer_norm_eps": text.eps,
        "visual_embedding_dim": config.region_width,
        "bypass_transformer": False,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.start_id,
        "eos_token_id": tokenizer.end_id,
        "dtype": "float32",
    }


def _card(module: VisualBert, config: Config, name: str) -> str:
    count = sum(p.numel() for n, p in module.named_parameters() if not n.startswith(_OWN))
    own = (
        "Its region features were made by an extractor that was trained with it and is no part of this folder:\n"
        "`VisualBertPredictor.region_features` of the run it came from gives them.\n"
        if config.features is not None
        else ""
    )
    return f"""---
library_name: transformers
---
# {name}

A `VisualBertForPreTraining` of {count:,} parameters, written by diptych. It takes token ids with `attention_mask`, and
`visual_embeds` [N, regions, {config.region_width}] with `visual_attention_mask`; `seq_relationship_logits` says whether
text and picture belong together (index 0: they do).

{own}
{UNSAID}
"""
