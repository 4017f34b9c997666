"""Llama on our own trunk: the same weights as `transformers`, read and written in its names.

Touvron et al. 2023, arXiv 2302.13971. Mistral without its window is the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.adapters.prefix import KeySizes
from diptych.core.errors import ConfigError, DiptychError
from diptych.core.losses import IGNORED
from diptych.decoding.decoder import Decoder
from diptych.decoding.trunk_decoder import TrunkDecoder
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.packing import pack
from diptych.layers.small_batch_linear import SmallBatchLinear
from diptych.models.pretrained_backbone._language_model import KeyedModel, Known, PackingModel, Said, Words

ARCHITECTURES = ("LlamaForCausalLM",)
_PLAIN = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0}


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes.

    Attributes:
        context: the longest row.
        tied: whether words are read and written by one matrix.
    """

    trunk: CausalConfig = field(default_factory=CausalConfig)
    vocabulary: int = 32_000
    context: int = 2048
    tied: bool = False


class Llama(PackingModel, KeyedModel):
    """Embedding, trunk, head."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config, width = config, config.trunk.width
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.trunk = CausalTransformer(config.trunk)
        self.head = SmallBatchLinear(width, config.vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=width**-0.5)
        if config.tied:
            self.head.weight = self.embedding.weight

    @property
    def width(self) -> int:
        return self.config.trunk.width

    @property
    def vocabulary(self) -> int:
        return self.config.vocabulary

    @property
    def context(self) -> int:
        return self.config.context

    @property
    def inner_width(self) -> int:
        return self.width

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.trunk.blocks)

    def embed(self, tokens_BT: Tensor) -> Tensor:
        out: Tensor = self.embedding(tokens_BT)
        return out

    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        out: Tensor = self.trunk(x_BTD)  # padding stands behind everything that looks
        return out

    def said_packed(self, x_BTD: Tensor, lengths_B: Tensor, labels_BT: Tensor, room: int) -> Said:
        packing = pack(lengths_B.tolist(), x_BTD.shape[1], room, x_BTD.device)
        next_BT = F.pad(labels_BT[:, 1:], (0, 1), value=IGNORED)
        states_RLD = self.trunk(packing.gather(x_BTD), mask_BTS=packing.mask(), places_BT=packing.places_RL)
        return Said(states_RLD, packing.labels(next_BT, IGNORED))

    def logits(self, states: Tensor) -> Tensor:
        out: Tensor = self.head(states)
        return out

    def decoder(self, rows: Sequence[Tensor], room: int, words: Words | None = None) -> Decoder:
        device, words = self.embedding.weight.device, words or self
        return TrunkDecoder(self.trunk, lambda tokens, _: words.embed(tokens), words.logits, rows, room, device)

    @property
    def key_sizes(self) -> KeySizes:
        trunk = self.config.trunk
        return KeySizes(trunk.depth, trunk.key_heads or trunk.heads, trunk.head_width)

    def read_after(self, x_BTD: Tensor, lengths_B: Tensor, known: Known) -> Tensor:
        room = known[0][0].shape[1] + x_BTD.shape[1]
        out: Tensor = self.trunk(x_BTD, self.trunk.known_cache(known, len(x_BTD), room))
        return out

    def decoder_after(self, x_NTD: Tensor, room: int, known: Known) -> Decoder:
        cache = self.trunk.known_cache(known, len(x_NTD), room)
        device = self.embedding.weight.device
        return TrunkDecoder(
            self.trunk, lambda tokens, _: self.embed(tokens), self.logits, list(x_NTD), room, device, cache=cache
        )

    def write_config(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(described(self.config), indent=1) + "\n", encoding="utf-8")


def sizes_of(plain: Mapping[str, Any], where: Path) -> LlamaConfig:
    """The sizes that a `transformers` configuration describes.

    Raises:
        ConfigError: it has a part that is not done here.
    """
    for name, expected in _PLAIN.items():
        if plain.get(name, expected) != expected:
            raise ConfigError(f"{where}: {name} {plain[name]!r} is not done here, {expected!r} is")
    positions = plain.get("rope_parameters") or {}
    if positions.get("rope_type", "default") != "default" or plain.get("rope_scaling"):
        raise ConfigError(f"{where}: scaled rotary positions are not done here")
    heads, width = plain["num_attention_heads"], plain["hidden_size"]
    if plain.get("head_dim") not in (None, width // heads):
        raise ConfigError(f"{where}: heads of {plain['head_dim']} numbers do not make up a width of {width}")
    keys = plain.get("num_key_value_heads") or heads
    trunk = CausalConfig(
        width, plain["num_hidden_layers"], heads, plain["intermediate_size"], 0 if keys == heads else keys,
        eps=plain.get("rms_norm_eps", 1e-6),
        rotary=float(positions.get("rope_theta", plain.get("rope_theta", 10_000.0))),
    )  # fmt: skip
    context = int(plain.get("max_position_embeddings", 2048))
    return LlamaConfig(trunk, plain["vocab_size"], context, bool(plain.get("tie_word_embeddings", False)))


def described(config: LlamaConfig) -> dict[str, Any]:
    """The `transformers` configuration of these sizes."""
    trunk = config.trunk
    return {
        "architectures": list(ARCHITECTURES),
        "model_type": "llama",
        "hidden_size": trunk.width,
        "num_hidden_layers": trunk.depth,
        "num_attention_heads": trunk.heads,
        "num_key_value_heads": trunk.key_heads or trunk.heads,
        "intermediate_size": trunk.hidden,
        "rms_norm_eps": trunk.eps,
        "rope_theta": trunk.rotary,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "tie_word_embeddings": config.tied,
    }


def llama_of(plain: Mapping[str, Any], public: Mapping[str, Tensor], where: Path) -> Llama:
    """The model of a configuration and weights in `transformers`' names.

    Raises:
        DiptychError: a weight is missing, left over, or of another shape.
    """
    model = Llama(sizes_of(plain, where))
    state = {}
    left = dict(public)
    for ours, theirs in names(model.config):
        if missing := [name for name in theirs if name not in left]:
            raise DiptychError(f"{where} lacks the weight {missing[0]}")
        state[ours] = torch.cat([left.pop(name) for name in theirs])
    if model.config.tied:
        left.pop("lm_head.weight", None)
        state["head.weight"] = state["embedding.weight"]
    left = {name: one for name, one in left.items() if not name.endswith("rotary_emb.inv_freq")}
    if left:
        raise DiptychError(f"{where} has weights that no Llama has: {', '.join(sorted(left)[:3])}")
    expected = model.state_dict()
    if wrong := [name for name in expected if expected[name].shape != state[name].shape]:
        raise DiptychError(f"{where}: the weight {wrong[0]} is not of the shape its configuration says")
    model.load_state_dict(state)
    return model.eval()


def public_state(model: Llama) -> dict[str, Tensor]:
    """The weights in `transformers`' names."""
    state = model.state_dict()
    found: dict[str, Tensor] = {}
    for ours, theirs in names(model.config):
        pieces = state[ours].chunk(len(theirs))
        found |= {name: piece.clone().contiguous() for name, piece in zip(theirs, pieces, strict=True)}
    return found


def names(config: LlamaConfig) -> list[tuple[str, tuple[str, ...]]]:
    """Our name of each weight, and those that stand one under another in it there."""
    found: list[tuple[str, tuple[str, ...]]] = [
        ("embedding.weight", ("model.embed_tokens.weight",)),
        ("trunk.norm.weight", ("model.norm.weight",)),
    ]
    if not config.tied:
        found.append(("head.weight", ("lm_head.weight",)))
    for layer in range(config.trunk.depth):
        ours, theirs = f"trunk.blocks.{layer}", f"model.layers.{layer}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        found += [
            (f"{ours}.attention.query.weight", (f"{attention}.q_proj.weight",)),
            (f"{ours}.attention.key_value.weight", (f"{attention}.k_proj.weight", f"{attention}.v_proj.weight")),
            (f"{ours}.attention.out.weight", (f"{attention}.o_proj.weight",)),
            (f"{ours}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",)),
            (f"{ours}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",)),
            (f"{ours}.mlp.up.weight", (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")),
            (f"{ours}.mlp.down.weight", (f"{mlp}.down_proj.weight",)),
        ]
    return found
