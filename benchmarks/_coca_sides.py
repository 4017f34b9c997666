"""One CoCa on both sides: open_clip's as shipped, and ours with its switches and weights.

On 112 pixels: a ViT of 12 layers of width 384, 65 pooled queries, 6 layers of text alone and 6 that read the picture.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from _clip_sides import CONTEXT, OPTIMIZER, SIZE, VOCABULARY, Step, autocast, task_step
from diptych.capabilities.load import OPEN_CLIP_CONFIG
from diptych.core.task import decay_groups
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.models._weight_tables import read
from diptych.models.generative import _coca_open_clip as public
from diptych.models.generative import coca

WIDTH, HEADS = 384, 6
_TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": WIDTH, "heads": HEADS, "layers": 6}
_MODEL: dict[str, Any] = {
    "embed_dim": WIDTH,
    "vision_cfg": {
        "image_size": SIZE, "patch_size": 16, "width": WIDTH, "head_width": 64, "layers": 12, "attentional_pool": True,
        "attn_pooler_queries": 65, "attn_pooler_heads": HEADS, "output_tokens": True,
    },
    "text_cfg": {**_TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": _TEXT,
}  # fmt: skip


def open_clip_coca(package: Any) -> Any:
    """Its CoCa, from one seed."""
    torch.manual_seed(0)
    return package.coca_model.CoCa(
        WIDTH,
        multimodal_cfg=_MODEL["multimodal_cfg"],
        text_cfg=package.model.CLIPTextCfg(**_MODEL["text_cfg"]),
        vision_cfg=package.model.CLIPVisionCfg(**_MODEL["vision_cfg"]),
    )


def their_step(model: Any, package: Any, precision: str, fused: bool = False) -> Step:
    """As open_clip_train: its loss, AdamW without decay of gains, biases and scalars, the clamp of the scale."""
    model.train()
    loss_of = package.loss.CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0)
    groups = [
        {"params": list(group.parameters.values()), "weight_decay": OPTIMIZER.weight_decay if group.decay else 0.0}
        for group in decay_groups(model)
    ]
    betas = (OPTIMIZER.beta1, OPTIMIZER.beta2)
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER.lr, betas=betas, eps=OPTIMIZER.eps, fused=fused or None)
    context = autocast(precision)

    def step(pairs: Any) -> float:
        optimizer.zero_grad()
        with context():
            found = model(pairs.image_BCHW, pairs.padded_BT)
            pictures = found["image_features"].reshape(len(pairs.image_BCHW), -1)
            loss = sum(
                loss_of(
                    pictures, found["text_features"], found["logits"], found["labels"], found["logit_scale"]
                )
            )  # fmt: skip
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.605170185988092)
        return float(loss.detach())

    return step


def our_step(state: dict[str, Tensor], precision: str, after: bool = False) -> Step:
    """Our task with open_clip's switches, on rows padded as it pads them.

    Args:
        after: read a text after its last word instead, as our recipes do, on captions cut to the longest of the batch.
    """
    config = _our_config()
    settings = ImageTextConfig(ImagePreprocessing(SIZE), TextPreprocessing(CONTEXT, pad_to_max=True))
    tokenizer = Tokenizer.fit(["a caption"], 300)  # of which nothing is used: rows come as tokens
    tokenizer.pad_id = config.text.pad_id
    processor = ImageTextProcessor(settings, tokenizer)
    task = coca.CocaTask(replace(config, text_end="after") if after else config, processor)
    task.model.load_state_dict(read(public.entries(config), public.unpacked(state), Path("open_clip")))
    return task_step(task.train(), precision, whole_rows=not after)


def _our_config() -> coca.Config:
    """As a folder of open_clip is read."""
    with TemporaryDirectory() as folder:
        (Path(folder) / OPEN_CLIP_CONFIG).write_text(json.dumps({"model_cfg": _MODEL}), encoding="ascii")
        return public.read_config(Path(folder))
