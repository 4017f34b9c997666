"""transformers' names of a bridge's weights: Blip2ForConditionalGeneration and InstructBlipForConditionalGeneration."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from diptych.layers.qformer import QFormerConfig
from diptych.models._weight_tables import Entry, both


def bridge_names(config: QFormerConfig) -> list[Entry]:
    """Q-Former and map; with text where it has a vocabulary."""
    found = [Entry("qformer.queries_QD", ("query_tokens",), ones=1), *both("map", "language_projection")]
    if config.vocabulary:
        inner = "qformer.embeddings"
        found += [
            Entry("qformer.words.weight", (f"{inner}.word_embeddings.weight",)),
            Entry("qformer.positions_TD", (f"{inner}.position_embeddings.weight",)),
            *both("qformer.norm", f"{inner}.layernorm"),
        ]
    else:
        found += both("qformer.norm", "qformer.layernorm")
    for layer in range(config.depth):
        reads = config.vocabulary > 0 and layer < config.depth - 1
        found += _block(f"qformer.blocks.{layer}", f"qformer.encoder.layer.{layer}", layer % config.every == 0, reads)
    return found


def without_unread(config: QFormerConfig, public: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their weights but those by which the last block changes the text, which nothing reads."""
    last = f"qformer.encoder.layer.{config.depth - 1}."
    return {
        name: one for name, one in public.items() if not name.startswith((f"{last}intermediate.", f"{last}output."))
    }


def _block(ours: str, theirs: str, looks: bool, reads: bool) -> list[Entry]:
    found = [
        *_stacked(f"{ours}.attention.qkv", f"{theirs}.attention.attention", ("query", "key", "value")),
        *both(f"{ours}.attention.out", f"{theirs}.attention.output.dense"),
        *both(f"{ours}.norm", f"{theirs}.attention.output.LayerNorm"),
        *both(f"{ours}.query_mlp.up", f"{theirs}.intermediate_query.dense"),
        *both(f"{ours}.query_mlp.down", f"{theirs}.output_query.dense"),
        *both(f"{ours}.query_norm", f"{theirs}.output_query.LayerNorm"),
    ]
    if looks:
        found += [
            *both(f"{ours}.cross.query", f"{theirs}.crossattention.attention.query"),
            *_stacked(f"{ours}.cross.key_value", f"{theirs}.crossattention.attention", ("key", "value")),
            *both(f"{ours}.cross.out", f"{theirs}.crossattention.output.dense"),
            *both(f"{ours}.cross_norm", f"{theirs}.crossattention.output.LayerNorm"),
        ]
    if reads:
        found += [
            *both(f"{ours}.text_mlp.up", f"{theirs}.intermediate.dense"),
            *both(f"{ours}.text_mlp.down", f"{theirs}.output.dense"),
            *both(f"{ours}.text_norm", f"{theirs}.output.LayerNorm"),
        ]
    return found


def _stacked(ours: str, theirs: str, sides: tuple[str, ...]) -> list[Entry]:
    return [Entry(f"{ours}.{kind}", tuple(f"{theirs}.{side}.{kind}" for side in sides)) for kind in ("weight", "bias")]
