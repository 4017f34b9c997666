"""Which weight of open_clip is which of ours: CLIP with either vision tower, SigLIP, and the tower of CoCa."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.models._weight_tables import Entry, both


def open_clip_clip(vision_depth: int, text_depth: int) -> list[Entry]:
    """open_clip's CLIP with a vision transformer."""
    return [*open_clip_vision(vision_depth), *_oc_text(text_depth)]


def open_clip_vision(depth: int, last_norm: str = "vision.norm_post") -> list[Entry]:
    """open_clip's vision transformer with its projection.

    Args:
        last_norm: what the norm after the blocks is called here.
    """
    return [
        Entry("vision.cls_D", ("visual.class_embedding",)),
        Entry("vision.positions_TD", ("visual.positional_embedding",)),
        Entry("vision.patches.weight", ("visual.conv1.weight",)),
        *both("vision.norm_pre", "visual.ln_pre"),
        *_oc_tower("vision", "visual.transformer", depth),
        *both(last_norm, "visual.ln_post"),
        Entry("image_head.weight", ("visual.proj",), transpose=True),
    ]


def open_clip_resnet_clip(blocks: Sequence[int], text_depth: int) -> list[Entry]:
    """open_clip's CLIP with a ResNet of so many blocks in each group; what follows its attention is our image head."""
    entries = [entry for i in range(3) for entry in _oc_conv(f"vision.stem.{i}", "visual", str(i + 1))]
    places = [f"visual.layer{group + 1}.{i}" for group, count in enumerate(blocks) for i in range(count)]
    for index, theirs in enumerate(places):
        ours = f"vision.blocks.{index}"
        for number, name in enumerate(("narrow", "middle", "widen"), start=1):
            entries += _oc_conv(f"{ours}.{name}", theirs, str(number))
        if theirs.endswith(".0"):
            entries += [
                Entry(f"{ours}.shortcut.conv.weight", (f"{theirs}.downsample.0.weight",)),
                *_oc_norm(f"{ours}.shortcut.norm", f"{theirs}.downsample.1"),
            ]
    pool = "visual.attnpool"
    return [
        *entries,
        Entry("vision.pool.positions_TD", (f"{pool}.positional_embedding",)),
        *[
            Entry(f"vision.pool.qkv.{kind}", tuple(f"{pool}.{side}_proj.{kind}" for side in "qkv"))
            for kind in ("weight", "bias")
        ],
        *both("image_head", f"{pool}.c_proj"),
        *_oc_text(text_depth),
    ]


def open_clip_siglip(vision_depth: int, text_depth: int) -> list[Entry]:
    """open_clip's CustomTextCLIP with a timm vision trunk, as the SigLIP checkpoints are."""
    trunk, pool = "visual.trunk", "visual.trunk.attn_pool"
    entries = [
        Entry("log_scale", ("logit_scale",)),
        Entry("bias", ("logit_bias",)),
        *both("vision.patches", f"{trunk}.patch_embed.proj"),
        Entry("vision.positions_TD", (f"{trunk}.pos_embed",), ones=1),
        *both("vision.norm_post", f"{trunk}.norm"),
        Entry("vision.pool.probe_D", (f"{pool}.latent",), ones=2),
        *[Entry(f"vision.pool.qkv.{kind}", (f"{pool}.q.{kind}", f"{pool}.kv.{kind}")) for kind in ("weight", "bias")],
        *both("vision.pool.out", f"{pool}.proj"),
        *both("vision.pool.norm", f"{pool}.norm"),
        *both("vision.pool.mlp.up", f"{pool}.mlp.fc1"),
        *both("vision.pool.mlp.down", f"{pool}.mlp.fc2"),
        Entry("text.embedding.weight", ("text.token_embedding.weight",)),
        Entry("text.positions_TD", ("text.positional_embedding",)),
        *_oc_tower("text", "text.transformer", text_depth),
        *both("text.norm_post", "text.ln_final"),
        *both("text_head", "text.text_projection"),
    ]
    for i in range(vision_depth):
        ours, theirs = f"vision.transformer.blocks.{i}", f"{trunk}.blocks.{i}"
        entries += [
            *both(f"{ours}.attention.qkv", f"{theirs}.attn.qkv"),
            *both(f"{ours}.attention.out", f"{theirs}.attn.proj"),
            *both(f"{ours}.norm1", f"{theirs}.norm1"),
            *both(f"{ours}.norm2", f"{theirs}.norm2"),
            *both(f"{ours}.mlp.up", f"{theirs}.mlp.fc1"),
            *both(f"{ours}.mlp.down", f"{theirs}.mlp.fc2"),
        ]
    return entries


def _oc_tower(ours: str, theirs: str, depth: int) -> list[Entry]:
    """open_clip's residual attention blocks."""
    entries: list[Entry] = []
    for i in range(depth):
        block, public = f"{ours}.transformer.blocks.{i}", f"{theirs}.resblocks.{i}"
        entries += [
            Entry(f"{block}.attention.qkv.{kind}", (f"{public}.attn.in_proj_{kind}",)) for kind in ("weight", "bias")
        ]
        entries += [
            *both(f"{block}.attention.out", f"{public}.attn.out_proj"),
            *both(f"{block}.norm1", f"{public}.ln_1"),
            *both(f"{block}.norm2", f"{public}.ln_2"),
            *both(f"{block}.mlp.up", f"{public}.mlp.c_fc"),
            *both(f"{block}.mlp.down", f"{public}.mlp.c_proj"),
        ]
    return entries


def _oc_conv(ours: str, theirs: str, number: str) -> list[Entry]:
    weight = Entry(f"{ours}.conv.weight", (f"{theirs}.conv{number}.weight",))
    return [weight, *_oc_norm(f"{ours}.norm", f"{theirs}.bn{number}")]


def _oc_norm(ours: str, theirs: str) -> list[Entry]:
    kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [Entry(f"{ours}.{kind}", (f"{theirs}.{kind}",)) for kind in kinds]


def _oc_text(depth: int) -> list[Entry]:
    """The text tower, its projection and the scale of open_clip's CLIP."""
    return [
        Entry("log_scale", ("logit_scale",)),
        Entry("text.embedding.weight", ("token_embedding.weight",)),
        Entry("text.positions_TD", ("positional_embedding",)),
        *_oc_tower("text", "transformer", depth),
        *both("text.norm_post", "ln_final"),
        Entry("text_head.weight", ("text_projection",), transpose=True),
    ]
