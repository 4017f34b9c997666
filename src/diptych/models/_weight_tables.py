"""Which public weight is which of ours, as explicit tables: transformers and open_clip, CLIP and SigLIP.

Every entry names one of our tensors and the public tensors it is made of; reading and writing go through the same
entries, and a name left over on either side is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diptych.core.errors import CheckpointError


@dataclass(frozen=True)
class Entry:
    """One of our tensors and where it comes from.

    Attributes:
        ours: name in our state dict.
        theirs: one public name, or several that are stacked along the first axis (query, key, value).
        transpose: whether the public matrix multiplies from the other side.
        ones: how many leading axes of size one the public tensor has more.
    """

    ours: str
    theirs: tuple[str, ...]
    transpose: bool = False
    ones: int = 0


def read(entries: Iterable[Entry], public: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """Our state dict from a public one.

    Raises:
        CheckpointError: a public tensor is missing, left over, or of a shape that cannot be.
    """
    left, state = dict(public), {}
    for entry in entries:
        missing = [name for name in entry.theirs if name not in left]
        if missing:
            raise CheckpointError(f"{where} lacks the weight {missing[0]}")
        tensor = (
            torch.cat([left.pop(name) for name in entry.theirs]) if len(entry.theirs) > 1 else left.pop(entry.theirs[0])
        )
        tensor = tensor.T if entry.transpose else tensor
        if tensor.shape[: entry.ones].numel() != 1:
            raise CheckpointError(f"{where}: the weight {entry.theirs[0]} is not of the shape its configuration says")
        state[entry.ours] = tensor.reshape(tensor.shape[entry.ones :]).contiguous()
    if left:
        raise CheckpointError(f"{where} has weights that no table knows: {', '.join(sorted(left)[:3])}")
    return state


def write(entries: Iterable[Entry], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The public state dict from ours, every tensor used exactly once."""
    left, public = dict(state), {}
    for entry in entries:
        tensor = left.pop(entry.ours)
        tensor = tensor.reshape((1,) * entry.ones + tuple(tensor.shape))
        tensor = tensor.T if entry.transpose else tensor
        pieces = tensor.chunk(len(entry.theirs)) if len(entry.theirs) > 1 else [tensor]  # a scalar has no axis to cut
        for name, piece in zip(entry.theirs, pieces, strict=True):
            public[name] = piece.clone().contiguous()
    assert not left, f"no entry for {sorted(left)}"
    return public


def _both(ours: str, theirs: str) -> list[Entry]:
    """Weight and bias of a layer."""
    return [Entry(f"{ours}.{kind}", (f"{theirs}.{kind}",)) for kind in ("weight", "bias")]


def _hf_block(ours: str, theirs: str) -> list[Entry]:
    attention = f"{theirs}.self_attn"
    qkv = [
        Entry(f"{ours}.attention.qkv.{kind}", tuple(f"{attention}.{side}_proj.{kind}" for side in "qkv"))
        for kind in ("weight", "bias")
    ]
    return [
        *qkv,
        *_both(f"{ours}.attention.out", f"{attention}.out_proj"),
        *_both(f"{ours}.norm1", f"{theirs}.layer_norm1"),
        *_both(f"{ours}.norm2", f"{theirs}.layer_norm2"),
        *_both(f"{ours}.mlp.up", f"{theirs}.mlp.fc1"),
        *_both(f"{ours}.mlp.down", f"{theirs}.mlp.fc2"),
    ]


def _hf_tower(ours: str, theirs: str, depth: int) -> list[Entry]:
    positions = Entry(f"{ours}.positions_TD", (f"{theirs}.embeddings.position_embedding.weight",))
    blocks = [
        entry
        for i in range(depth)
        for entry in _hf_block(f"{ours}.transformer.blocks.{i}", f"{theirs}.encoder.layers.{i}")
    ]
    return [positions, *blocks]


def _hf_text(depth: int) -> list[Entry]:
    return [
        Entry("text.embedding.weight", ("text_model.embeddings.token_embedding.weight",)),
        *_hf_tower("text", "text_model", depth),
        *_both("text.norm_post", "text_model.final_layer_norm"),
    ]


def transformers_clip(vision_depth: int, text_depth: int) -> list[Entry]:
    """transformers' CLIPModel."""
    vision = "vision_model.embeddings"
    return [
        Entry("log_scale", ("logit_scale",)),
        Entry("vision.cls_D", (f"{vision}.class_embedding",)),
        Entry("vision.patches.weight", (f"{vision}.patch_embedding.weight",)),
        *_hf_tower("vision", "vision_model", vision_depth),
        *_both("vision.norm_pre", "vision_model.pre_layrnorm"),
        *_both("vision.norm_post", "vision_model.post_layernorm"),
        *_hf_text(text_depth),
        Entry("image_head.weight", ("visual_projection.weight",)),
        Entry("text_head.weight", ("text_projection.weight",)),
    ]


def transformers_siglip(vision_depth: int, text_depth: int) -> list[Entry]:
    """transformers' SiglipModel; its scale and bias have one axis of size one."""
    head = "vision_model.head"
    qkv = [Entry(f"vision.pool.qkv.{kind}", (f"{head}.attention.in_proj_{kind}",)) for kind in ("weight", "bias")]
    return [
        Entry("log_scale", ("logit_scale",), ones=1),
        Entry("bias", ("logit_bias",), ones=1),
        *_both("vision.patches", "vision_model.embeddings.patch_embedding"),
        *_hf_tower("vision", "vision_model", vision_depth),
        *_both("vision.norm_post", "vision_model.post_layernorm"),
        Entry("vision.pool.probe_D", (f"{head}.probe",), ones=2),
        *qkv,
        *_both("vision.pool.out", f"{head}.attention.out_proj"),
        *_both("vision.pool.norm", f"{head}.layernorm"),
        *_both("vision.pool.mlp.up", f"{head}.mlp.fc1"),
        *_both("vision.pool.mlp.down", f"{head}.mlp.fc2"),
        *_hf_text(text_depth),
        *_both("text_head", "text_model.head"),
    ]


def transformers_vit(depth: int) -> list[Entry]:
    """transformers' ViTForImageClassification, as version 5 writes it."""
    return _vit(depth, "vit.layers", "attention.{}_proj", "q k v", "attention.o_proj", "mlp.fc1", "mlp.fc2")


def transformers_vit_v4(depth: int) -> list[Entry]:
    """The same as earlier versions wrote it, and as most folders on the hub still have it."""
    inner = "attention.attention.{}"
    out = ("attention.output.dense", "intermediate.dense", "output.dense")
    return _vit(depth, "vit.encoder.layer", inner, "query key value", *out)


def _vit(depth: int, layers: str, attention: str, sides: str, out: str, up: str, down: str) -> list[Entry]:
    entries = [
        Entry("vision.cls_D", ("vit.embeddings.cls_token",), ones=2),
        Entry("vision.positions_TD", ("vit.embeddings.position_embeddings",), ones=1),
        *_both("vision.patches", "vit.embeddings.patch_embeddings.projection"),
        *_both("vision.norm_post", "vit.layernorm"),
        *_both("head", "classifier"),
    ]
    for i in range(depth):
        ours, theirs = f"vision.transformer.blocks.{i}", f"{layers}.{i}"
        entries += [
            Entry(
                f"{ours}.attention.qkv.{kind}",
                tuple(f"{theirs}.{attention.format(side)}.{kind}" for side in sides.split()),
            )
            for kind in ("weight", "bias")
        ]
        entries += [
            *_both(f"{ours}.attention.out", f"{theirs}.{out}"),
            *_both(f"{ours}.norm1", f"{theirs}.layernorm_before"),
            *_both(f"{ours}.norm2", f"{theirs}.layernorm_after"),
            *_both(f"{ours}.mlp.up", f"{theirs}.{up}"),
            *_both(f"{ours}.mlp.down", f"{theirs}.{down}"),
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
            *_both(f"{block}.attention.out", f"{public}.attn.out_proj"),
            *_both(f"{block}.norm1", f"{public}.ln_1"),
            *_both(f"{block}.norm2", f"{public}.ln_2"),
            *_both(f"{block}.mlp.up", f"{public}.mlp.c_fc"),
            *_both(f"{block}.mlp.down", f"{public}.mlp.c_proj"),
        ]
    return entries


def open_clip_clip(vision_depth: int, text_depth: int) -> list[Entry]:
    """open_clip's CLIP with a vision transformer."""
    return [
        Entry("vision.cls_D", ("visual.class_embedding",)),
        Entry("vision.positions_TD", ("visual.positional_embedding",)),
        Entry("vision.patches.weight", ("visual.conv1.weight",)),
        *_both("vision.norm_pre", "visual.ln_pre"),
        *_oc_tower("vision", "visual.transformer", vision_depth),
        *_both("vision.norm_post", "visual.ln_post"),
        Entry("image_head.weight", ("visual.proj",), transpose=True),
        *_oc_text(text_depth),
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
        *_both("image_head", f"{pool}.c_proj"),
        *_oc_text(text_depth),
    ]


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
        *_both("text.norm_post", "ln_final"),
        Entry("text_head.weight", ("text_projection",), transpose=True),
    ]


def open_clip_siglip(vision_depth: int, text_depth: int) -> list[Entry]:
    """open_clip's CustomTextCLIP with a timm vision trunk, as the SigLIP checkpoints are."""
    trunk, pool = "visual.trunk", "visual.trunk.attn_pool"
    entries = [
        Entry("log_scale", ("logit_scale",)),
        Entry("bias", ("logit_bias",)),
        *_both("vision.patches", f"{trunk}.patch_embed.proj"),
        Entry("vision.positions_TD", (f"{trunk}.pos_embed",), ones=1),
        *_both("vision.norm_post", f"{trunk}.norm"),
        Entry("vision.pool.probe_D", (f"{pool}.latent",), ones=2),
        *[Entry(f"vision.pool.qkv.{kind}", (f"{pool}.q.{kind}", f"{pool}.kv.{kind}")) for kind in ("weight", "bias")],
        *_both("vision.pool.out", f"{pool}.proj"),
        *_both("vision.pool.norm", f"{pool}.norm"),
        *_both("vision.pool.mlp.up", f"{pool}.mlp.fc1"),
        *_both("vision.pool.mlp.down", f"{pool}.mlp.fc2"),
        Entry("text.embedding.weight", ("text.token_embedding.weight",)),
        Entry("text.positions_TD", ("text.positional_embedding",)),
        *_oc_tower("text", "text.transformer", text_depth),
        *_both("text.norm_post", "text.ln_final"),
        *_both("text_head", "text.text_projection"),
    ]
    for i in range(vision_depth):
        ours, theirs = f"vision.transformer.blocks.{i}", f"{trunk}.blocks.{i}"
        entries += [
            *_both(f"{ours}.attention.qkv", f"{theirs}.attn.qkv"),
            *_both(f"{ours}.attention.out", f"{theirs}.attn.proj"),
            *_both(f"{ours}.norm1", f"{theirs}.norm1"),
            *_both(f"{ours}.norm2", f"{theirs}.norm2"),
            *_both(f"{ours}.mlp.up", f"{theirs}.mlp.fc1"),
            *_both(f"{ours}.mlp.down", f"{theirs}.mlp.fc2"),
        ]
    return entries
