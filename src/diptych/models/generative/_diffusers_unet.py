"""diffusers' UNet2DConditionModel folders: which of their settings and weights is which of ours.

config.json                          sizes
diffusion_pytorch_model.safetensors  weights
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.core.errors import ConfigError
from diptych.layers.unet import UNetConfig
from diptych.models._public_folder import read_json
from diptych.models._weight_tables import Entry, both

STEM = "diffusion_pytorch_model"

_ATTENDS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP = {True: "CrossAttnUpBlock2D", False: "UpBlock2D"}
_MIDDLE = "UNetMidBlock2DCrossAttn"
_ONLY: dict[str, Any] = {
    "act_fn": "silu", "center_input_sample": False, "flip_sin_to_cos": True, "freq_shift": 0, "norm_eps": 1e-5,
    "downsample_padding": 1, "mid_block_scale_factor": 1, "dual_cross_attention": False, "only_cross_attention": False,
    "resnet_time_scale_shift": "default", "time_embedding_type": "positional", "conv_in_kernel": 3,
    "conv_out_kernel": 3, "mid_block_only_cross_attention": None, "class_embed_type": None, "addition_embed_type": None,
    "encoder_hid_dim": None, "encoder_hid_dim_type": None, "num_class_embeds": None, "resnet_skip_time_act": False,
    "time_embedding_act_fn": None, "timestep_post_act": None, "time_cond_proj_dim": None,
    "class_embeddings_concat": False, "resnet_out_scale_factor": 1.0, "cross_attention_norm": None,
}  # fmt: skip
"""Settings of which one value is done here; a folder that lacks them means this value."""


def read_sizes(folder: Path) -> tuple[UNetConfig, int]:
    """The sizes of a U-Net folder, and the side of its grid.

    Raises:
        CheckpointError: no configuration, or a damaged one.
        ConfigError: it has a part that is not done here.
    """
    plain = read_json(folder / "config.json")
    for name, value in _ONLY.items():
        if plain.get(name, value) not in (value, None if value is False else value):
            raise ConfigError(f"{folder}: {name} = {plain[name]!r} is not done here, {value!r} is")
    channels = tuple(plain["block_out_channels"])
    down = list(plain.get("down_block_types", ()))
    if unknown := [kind for kind in down if kind not in _ATTENDS]:
        raise ConfigError(f"{folder}: blocks of the kind {unknown[0]} are not done here, {', '.join(_ATTENDS)} are")
    attended = tuple(_ATTENDS[kind] for kind in down)
    if list(plain.get("up_block_types", ())) != [_UP[one] for one in reversed(attended)]:
        raise ConfigError(f"{folder}: the way up does not mirror the way down, which is all that is done here")
    if plain.get("mid_block_type", _MIDDLE) != _MIDDLE:
        raise ConfigError(f"{folder}: mid_block_type = {plain['mid_block_type']!r} is not done here, {_MIDDLE} is")
    config = UNetConfig(
        inputs=plain.get("in_channels", 4),
        outputs=plain.get("out_channels", 4),
        channels=channels,
        blocks=_same(plain.get("layers_per_block", 2), "layers_per_block", folder),
        attended=attended,
        # What diffusers calls the head width is the number of heads in these models.
        heads=_each(plain.get("num_attention_heads") or plain.get("attention_head_dim", 8)),
        groups=plain.get("norm_num_groups", 32),
        text=_same(plain.get("cross_attention_dim", 1280), "cross_attention_dim", folder),
        linear=bool(plain.get("use_linear_projection", False)),
        depth=_same(plain.get("transformer_layers_per_block", 1), "transformer_layers_per_block", folder),
    )
    size = plain.get("sample_size", 64)
    return config, int(size[0] if isinstance(size, list) else size)


def described(config: UNetConfig, side: int) -> dict[str, Any]:
    """What `read_sizes` reads of a U-Net on a grid of this side."""
    kinds = {attends: name for name, attends in _ATTENDS.items()}
    return {
        "_class_name": "UNet2DConditionModel",
        **_ONLY,
        "sample_size": side,
        "in_channels": config.inputs,
        "out_channels": config.outputs,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.blocks,
        "down_block_types": [kinds[one] for one in config.attended],
        "up_block_types": [_UP[one] for one in reversed(config.attended)],
        "mid_block_type": _MIDDLE,
        "attention_head_dim": config.heads[0] if len(config.heads) == 1 else list(config.heads),
        "norm_num_groups": config.groups,
        "cross_attention_dim": config.text,
        "use_linear_projection": config.linear,
        "transformer_layers_per_block": config.depth,
    }


def _each(value: int | list[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _same(value: int | list[int], name: str, folder: Path) -> int:
    found = set(_each(value))
    if len(found) != 1:
        raise ConfigError(f"{folder}: {name} = {value} differs from level to level, which is not done here")
    return found.pop()


def entries(config: UNetConfig) -> list[Entry]:
    """Every weight of a U-Net and its name there."""
    return [
        *both("told.step.up", "time_embedding.linear_1"),
        *both("told.step.down", "time_embedding.linear_2"),
        *both("conv_in", "conv_in"),
        *_way("down", "down_blocks", config, config.blocks, ("downsamplers", range(len(config.channels)))),
        *_block("middle.block", "mid_block.resnets.0", shortcut=False),
        *_attention("middle.attention", "mid_block.attentions.0", config.depth),
        *_block("middle_after", "mid_block.resnets.1", shortcut=False),
        *_way("up", "up_blocks", config, config.blocks + 1, ("upsamplers", range(len(config.channels))[::-1])),
        *both("norm_out", "conv_norm_out"),
        *both("conv_out", "conv_out"),
    ]


def _way(ours: str, theirs: str, config: UNetConfig, blocks: int, change: tuple[str, range]) -> Iterator[Entry]:
    """One way, level by level as it is gone; `change` names what stands after all levels but the last."""
    place, (between, levels) = 0, change
    width, kept = config.channels[0 if ours == "down" else -1], _kept(config)
    for number, level in enumerate(levels):
        for block in range(blocks):
            inputs = width if ours == "down" else width + kept.pop()
            width = config.channels[level]
            at = f"{theirs}.{number}"
            yield from _block(f"{ours}.{place}.block", f"{at}.resnets.{block}", inputs != width)
            if config.attended[level]:
                yield from _attention(f"{ours}.{place}.attention", f"{at}.attentions.{block}", config.depth)
            place += 1
        if number < len(levels) - 1:
            yield from both(f"{ours}.{place}.conv", f"{theirs}.{number}.{between}.0.conv")
            place += 1


def _kept(config: UNetConfig) -> list[int]:
    """Channels of what is kept on the way down, in order."""
    kept = [config.channels[0]]
    for level, width in enumerate(config.channels):
        kept += [width] * config.blocks
        if level < len(config.channels) - 1:
            kept.append(width)
    return kept


def _block(ours: str, theirs: str, shortcut: bool) -> list[Entry]:
    found = [
        *both(f"{ours}.norm1", f"{theirs}.norm1"),
        *both(f"{ours}.conv1", f"{theirs}.conv1"),
        *both(f"{ours}.time", f"{theirs}.time_emb_proj"),
        *both(f"{ours}.norm2", f"{theirs}.norm2"),
        *both(f"{ours}.conv2", f"{theirs}.conv2"),
    ]
    return found + (both(f"{ours}.shortcut", f"{theirs}.conv_shortcut") if shortcut else [])


def _attention(ours: str, theirs: str, depth: int) -> list[Entry]:
    found = [
        *both(f"{ours}.norm", f"{theirs}.norm"),
        *both(f"{ours}.into", f"{theirs}.proj_in"),
        *both(f"{ours}.back", f"{theirs}.proj_out"),
    ]
    for index in range(depth):
        block, there = f"{ours}.blocks.{index}", f"{theirs}.transformer_blocks.{index}"
        for number, side in ((1, "own"), (2, "text")):
            attention = f"{there}.attn{number}"
            pair = (f"{attention}.to_k.weight", f"{attention}.to_v.weight")
            found += [
                *both(f"{block}.norm{number}", f"{there}.norm{number}"),
                Entry(f"{block}.{side}.query.weight", (f"{attention}.to_q.weight",)),
                Entry(f"{block}.{side}.key_value.weight", pair),
                *both(f"{block}.{side}.out", f"{attention}.to_out.0"),
            ]
        found += [
            *both(f"{block}.norm3", f"{there}.norm3"),
            *both(f"{block}.mlp.up", f"{there}.ff.net.0.proj"),
            *both(f"{block}.mlp.down", f"{there}.ff.net.2"),
        ]
    return found
