"""A tiny detector of objects of `transformers` with every parameter random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from diptych.data.pixels.tower_inputs import PREPROCESSOR

HF: Any = transformers
QUERIES = 7


def tiny_yolos(folder: Path, **preprocessor: Any) -> Any:
    config = HF.YolosConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=32, image_size=[32, 48],
        patch_size=8, num_detection_tokens=QUERIES, num_labels=3,
    )  # fmt: skip
    model = HF.YolosForObjectDetection(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    plain = {"size": {"height": 32, "width": 48}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (folder / PREPROCESSOR).write_text(json.dumps(plain | preprocessor))
    return model
