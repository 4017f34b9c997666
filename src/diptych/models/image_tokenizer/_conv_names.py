"""Which part of a convolutional encoder and decoder is which in public folders: diffusers' names and taming's.

diffusers (VQModel, AutoencoderKL) counts a decoder's stages as they come; taming-transformers (VQGAN, and transformers'
ChameleonVQVAE after it) counts them from the picture, in encoder and decoder alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.models._weight_tables import Entry, both


@dataclass(frozen=True)
class Place:
    """A part of an encoder or decoder, in our order.

    Attributes:
        kind: "residual", "widening", "attention" or "resampling".
        stage: counted as the parts come; None for the middle.
        index: of the block in its stage, or in the middle.
    """

    kind: str
    stage: int | None = None
    index: int = 0


@dataclass(frozen=True)
class Names:
    """How a format names layers.

    Attributes:
        norm_out, shortcut: the last norm; the convolution where a block gets wider.
        norm, qkv, out: of attention.
    """

    norm_out: str
    shortcut: str
    norm: str
    qkv: tuple[str, str, str]
    out: str


DIFFUSERS = Names("conv_norm_out", "conv_shortcut", "group_norm", ("to_q", "to_k", "to_v"), "to_out.0")
DIFFUSERS_OLD = Names("conv_norm_out", "conv_shortcut", "group_norm", ("query", "key", "value"), "proj_attn")
TAMING = Names("norm_out", "nin_shortcut", "norm", ("q", "k", "v"), "proj_out")


def side_entries(side: str, config: AutoencoderConfig, names: Names) -> list[Entry]:
    """Every weight of "encoder" or "decoder" and its name there."""
    places = list(_encoder_places(config) if side == "encoder" else _decoder_places(config))
    name_of = _taming_name if names is TAMING else _diffusers_name
    found = both(f"{side}.conv_in", f"{side}.conv_in") + both(f"{side}.conv_out", f"{side}.conv_out")
    found += both(f"{side}.norm_out", f"{side}.{names.norm_out}")
    for index, place in enumerate(places):
        found += _part(f"{side}.parts.{index}", f"{side}.{name_of(side, place, config)}", place.kind, names)
    return found


def _part(ours: str, theirs: str, kind: str, names: Names) -> list[Entry]:
    if kind == "resampling":
        return both(f"{ours}.conv", f"{theirs}.conv")
    if kind == "attention":
        stacked = [
            Entry(f"{ours}.qkv.{part}", tuple(f"{theirs}.{name}.{part}" for name in names.qkv))
            for part in ("weight", "bias")
        ]
        return [
            *both(f"{ours}.norm", f"{theirs}.{names.norm}"),
            *stacked,
            *both(f"{ours}.out", f"{theirs}.{names.out}"),
        ]
    layers = ("norm1", "conv1", "norm2", "conv2")
    found = [entry for layer in layers for entry in both(f"{ours}.{layer}", f"{theirs}.{layer}")]
    return found + (both(f"{ours}.shortcut", f"{theirs}.{names.shortcut}") if kind == "widening" else [])


def _encoder_places(config: AutoencoderConfig) -> Iterator[Place]:
    width = config.channels[0]
    for stage, wider in enumerate(config.channels):
        for block in range(config.blocks):
            yield Place("residual" if width == wider else "widening", stage, block)
            width = wider
            if stage in config.attended:
                yield Place("attention", stage, block)
        if stage < len(config.channels) - 1:
            yield Place("resampling", stage)
    yield from _middle(config)


def _decoder_places(config: AutoencoderConfig) -> Iterator[Place]:
    yield from _middle(config)
    width, last = config.channels[-1], len(config.channels) - 1
    for stage, narrower in enumerate(reversed(config.channels)):
        for block in range(config.blocks + 1):
            yield Place("residual" if width == narrower else "widening", stage, block)
            width = narrower
            if last - stage in config.attended:
                yield Place("attention", stage, block)
        if stage < last:
            yield Place("resampling", stage)


def _middle(config: AutoencoderConfig) -> Iterator[Place]:
    yield Place("residual", None, 0)
    if config.attention:
        yield Place("attention", None, 0)
    yield Place("residual", None, 1)


def _diffusers_name(side: str, place: Place, config: AutoencoderConfig) -> str:
    kind = "attentions" if place.kind == "attention" else "resnets"
    if place.stage is None:
        return f"mid_block.{kind}.{place.index}"
    stage = f"{'down' if side == 'encoder' else 'up'}_blocks.{place.stage}"
    if place.kind == "resampling":
        return f"{stage}.{'down' if side == 'encoder' else 'up'}samplers.0"
    return f"{stage}.{kind}.{place.index}"


def _taming_name(side: str, place: Place, config: AutoencoderConfig) -> str:
    if place.stage is None:
        return "mid.attn_1" if place.kind == "attention" else f"mid.block_{place.index + 1}"
    way = "down" if side == "encoder" else "up"
    level = place.stage if side == "encoder" else len(config.channels) - 1 - place.stage
    if place.kind == "resampling":
        return f"{way}.{level}.{way}sample"
    return f"{way}.{level}.{'attn' if place.kind == 'attention' else 'block'}.{place.index}"
