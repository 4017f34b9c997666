"""One SigLIP on both sides, as large as the CLIP of _clip_sides.py: open_clip's with timm's tower, and ours.

open_clip reads a text at its last position, padding included; ours does the same for equal losses (`constant`), and
without padding as our recipes train.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from _clip_sides import CONTEXT, SIZE, VOCABULARY
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.transformer import Activation
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _open_clip_tables as tables
from diptych.models._weight_tables import read
from diptych.models.contrastive import siglip


def open_clip_siglip(package: Any) -> Any:
    """Its SigLIP, from one seed; timm's tower by its name, with other sizes."""
    torch.manual_seed(0)
    create = package.timm_model.timm.create_model
    sizes = {"embed_dim": 384, "depth": 12, "num_heads": 6, "patch_size": 16, "img_size": SIZE}
    with patch.object(package.timm_model.timm, "create_model", lambda name, **given: create(name, **given | sizes)):
        return package.model.CustomTextCLIP(
            embed_dim=384,
            init_logit_scale=2.302585092994046,
            init_logit_bias=-10,
            vision_cfg={"image_size": SIZE, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map",
                        "timm_proj": "none"},
            text_cfg={"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 384, "heads": 6, "layers": 6,
                      "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}},
        )  # fmt: skip


def our_siglip(state: dict[str, Tensor], constant: bool) -> siglip.SiglipTask:
    """Our SigLIP with open_clip's weights."""
    vision = VisionConfig(SIZE, 16, 384, 12, 6, 1536, pooling="map")
    text = TextConfig(VOCABULARY, CONTEXT, 384, 6, 6, 1536, causal=False, eps=1e-6, activation=Activation.GELU)
    text = replace(text, padding="constant") if constant else text
    settings = ImageTextConfig(ImagePreprocessing(SIZE), TextPreprocessing(CONTEXT, pad_to_max=constant))
    processor = ImageTextProcessor(settings, Tokenizer.fit(["a caption"], 300))
    task = siglip.SiglipTask(siglip.Config(vision, text), processor)
    task.model.load_state_dict(read(tables.open_clip_siglip(12, 6), state, Path("open_clip")))
    return task.train()
