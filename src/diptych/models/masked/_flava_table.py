"""Which weight of transformers' FlavaForPreTraining is which of ours."""

from __future__ import annotations

from diptych.models._weight_tables import Entry, both

_PATH = ("conv_1", "conv_2", "conv_3", "conv_4")


def flava_entries(image_depth: int, text_depth: int, fusion_depth: int, codebook_blocks: int) -> list[Entry]:
    """The table.

    Args:
        codebook_blocks: residual blocks a group of its codebook; 0 where it has none.
    """
    return [
        *_image(image_depth),
        *_text(text_depth),
        *_fusion(fusion_depth),
        Entry("log_scale", ("flava.logit_scale",)),
        *both("image_head", "flava.image_projection"),
        *both("text_head", "flava.text_projection"),
        *_heads(),
        *(_codebook(codebook_blocks) if codebook_blocks else []),
    ]


def _image(depth: int) -> list[Entry]:
    theirs = "flava.image_model"
    return [
        Entry("image.cls_D", (f"{theirs}.embeddings.cls_token",), ones=2),
        Entry("image.mask_D", (f"{theirs}.embeddings.mask_token",), ones=2),
        Entry("image.positions_TD", (f"{theirs}.embeddings.position_embeddings",), ones=1),
        *both("image.patches", f"{theirs}.embeddings.patch_embeddings.projection"),
        *_blocks("image", theirs, depth),
        *both("image.norm_post", f"{theirs}.layernorm"),
    ]


def _text(depth: int) -> list[Entry]:
    theirs = "flava.text_model"
    return [
        Entry("text.embedding.weight", (f"{theirs}.embeddings.word_embeddings.weight",)),
        Entry("text.positions_TD", (f"{theirs}.embeddings.position_embeddings.weight",)),
        *both("text.norm_pre", f"{theirs}.embeddings.LayerNorm"),
        *_blocks("text", theirs, depth),
        *both("text.norm_post", f"{theirs}.layernorm"),
    ]


def _fusion(depth: int) -> list[Entry]:
    theirs = "flava.multimodal_model"
    return [
        *both("fusion.image_map", "flava.image_to_mm_projection"),
        *both("fusion.text_map", "flava.text_to_mm_projection"),
        Entry("fusion.cls_D", (f"{theirs}.cls_token",), ones=2),
        *_blocks("fusion", theirs, depth),
        *both("fusion.norm_post", f"{theirs}.layernorm"),
    ]


def _blocks(ours: str, theirs: str, depth: int) -> list[Entry]:
    return [
        entry for i in range(depth) for entry in _block(f"{ours}.transformer.blocks.{i}", f"{theirs}.encoder.layer.{i}")
    ]


def _block(ours: str, theirs: str) -> list[Entry]:
    sides = ("query", "key", "value")
    qkv = [
        Entry(f"{ours}.attention.qkv.{kind}", tuple(f"{theirs}.attention.attention.{side}.{kind}" for side in sides))
        for kind in ("weight", "bias")
    ]
    return [
        *qkv,
        *both(f"{ours}.attention.out", f"{theirs}.attention.output.dense"),
        *both(f"{ours}.norm1", f"{theirs}.layernorm_before"),
        *both(f"{ours}.norm2", f"{theirs}.layernorm_after"),
        *both(f"{ours}.mlp.up", f"{theirs}.intermediate.dense"),
        *both(f"{ours}.mlp.down", f"{theirs}.output.dense"),
    ]


def _heads() -> list[Entry]:
    entries = [*both("itm.dense", "itm_head.pooler.dense"), *both("itm.answer", "itm_head.seq_relationship")]
    for head in ("mim", "mlm", "mmm_image", "mmm_text"):
        entries += [
            *both(f"{head}.dense", f"{head}_head.transform.dense"),
            *both(f"{head}.norm", f"{head}_head.transform.LayerNorm"),
            *both(f"{head}.decoder", f"{head}_head.decoder"),
        ]
    return entries


def _codebook(blocks: int) -> list[Entry]:
    theirs = "image_codebook.blocks"
    entries = [*both("codebook.enter", f"{theirs}.input"), *both("codebook.leave", f"{theirs}.output.conv")]
    for group in range(4):
        for block in range(blocks):
            ours, public = f"codebook.groups.{group}.{block}", f"{theirs}.group_{group + 1}.group.block_{block + 1}"
            for i, name in enumerate(_PATH):
                entries += both(f"{ours}.path.{i}", f"{public}.res_path.path.{name}")
            if block == 0 and group > 0:  # the first group keeps its width
                entries += both(f"{ours}.skip", f"{public}.id_path")
    return entries
