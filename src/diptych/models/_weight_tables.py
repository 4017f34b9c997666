"""Which public weight is which of ours, as explicit tables; here those of transformers, for CLIP, SigLIP and ViT.

Every entry names one of our tensors and the public tensors it is made of; reading and writing go through the same
entries, and a name left over on either side is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

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


def load_into(module: nn.Module, state: Mapping[str, Tensor], where: Path) -> None:
    """Loads what `read` gave, strictly, and puts the module into evaluation mode.

    Raises:
        CheckpointError: a weight has another shape than the folder's configuration says.
    """
    expected = module.state_dict()
    wrong = [name for name in expected if expected[name].shape != state[name].shape]
    if wrong:
        raise CheckpointError(f"{where}: the weight {wrong[0]} is not of the shape its configuration says")
    module.load_state_dict(state)
    module.eval()


def both(ours: str, theirs: str) -> list[Entry]:
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
        *both(f"{ours}.attention.out", f"{attention}.out_proj"),
        *both(f"{ours}.norm1", f"{theirs}.layer_norm1"),
        *both(f"{ours}.norm2", f"{theirs}.layer_norm2"),
        *both(f"{ours}.mlp.up", f"{theirs}.mlp.fc1"),
        *both(f"{ours}.mlp.down", f"{theirs}.mlp.fc2"),
    ]


def _hf_tower(ours: str, theirs: str, depth: int) -> list[Entry]:
    positions = Entry(f"{ours}.positions_TD", (f"{theirs}.embeddings.position_embedding.weight",))
    blocks = [
        entry
        for i in range(depth)
        for entry in _hf_block(f"{ours}.transformer.blocks.{i}", f"{theirs}.encoder.layers.{i}")
    ]
    return [positions, *blocks]


def transformers_text(depth: int) -> list[Entry]:
    """The text tower of transformers' CLIPModel and SiglipModel, all there is of CLIPTextModel."""
    return [
        Entry("text.embedding.weight", ("text_model.embeddings.token_embedding.weight",)),
        *_hf_tower("text", "text_model", depth),
        *both("text.norm_post", "text_model.final_layer_norm"),
    ]


def transformers_clip(vision_depth: int, text_depth: int) -> list[Entry]:
    """transformers' CLIPModel."""
    vision = "vision_model.embeddings"
    return [
        Entry("log_scale", ("logit_scale",)),
        Entry("vision.cls_D", (f"{vision}.class_embedding",)),
        Entry("vision.patches.weight", (f"{vision}.patch_embedding.weight",)),
        *_hf_tower("vision", "vision_model", vision_depth),
        *both("vision.norm_pre", "vision_model.pre_layrnorm"),
        *both("vision.norm_post", "vision_model.post_layernorm"),
        *transformers_text(text_depth),
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
        *both("vision.patches", "vision_model.embeddings.patch_embedding"),
        *_hf_tower("vision", "vision_model", vision_depth),
        *both("vision.norm_post", "vision_model.post_layernorm"),
        Entry("vision.pool.probe_D", (f"{head}.probe",), ones=2),
        *qkv,
        *both("vision.pool.out", f"{head}.attention.out_proj"),
        *both("vision.pool.norm", f"{head}.layernorm"),
        *both("vision.pool.mlp.up", f"{head}.mlp.fc1"),
        *both("vision.pool.mlp.down", f"{head}.mlp.fc2"),
        *transformers_text(text_depth),
        *both("text_head", "text_model.head"),
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
        *both("vision.patches", "vit.embeddings.patch_embeddings.projection"),
        *both("vision.norm_post", "vit.layernorm"),
        *both("head", "classifier"),
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
            *both(f"{ours}.attention.out", f"{theirs}.{out}"),
            *both(f"{ours}.norm1", f"{theirs}.layernorm_before"),
            *both(f"{ours}.norm2", f"{theirs}.layernorm_after"),
            *both(f"{ours}.mlp.up", f"{theirs}.{up}"),
            *both(f"{ours}.mlp.down", f"{theirs}.{down}"),
        ]
    return entries
