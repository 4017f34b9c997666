"""Tiny backbones of `transformers` with every parameter random, saved as the library itself saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

HF: Any = transformers
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}


def saved(model: Any, folder: Path) -> Any:
    """Every parameter random, written as the library writes it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5, generator=generator)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0, generator=generator)  # type: ignore[union-attr]
    model.eval().save_pretrained(folder)
    return model


def vit(folder: Path, **more: Any) -> Any:
    return saved(HF.ViTModel(HF.ViTConfig(**SIZES, image_size=16, patch_size=8, **more)), folder)


def mobilenet(folder: Path) -> Any:
    config = HF.MobileNetV2Config(depth_multiplier=0.1, image_size=32, num_labels=5, tf_padding=True)
    return saved(HF.MobileNetV2ForImageClassification(config), folder)


def bert(folder: Path, **more: Any) -> Any:
    return saved(HF.BertModel(HF.BertConfig(**SIZES, vocab_size=30, max_position_embeddings=16, **more)), folder)


def two_towers(folder: Path) -> Any:
    text = SIZES | {"vocab_size": 30, "max_position_embeddings": 16, "eos_token_id": 29, "bos_token_id": 0}
    vision = SIZES | {"image_size": 16, "patch_size": 8}
    return saved(HF.CLIPModel(HF.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)), folder)


def pictures(size: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


TOKENS = torch.randint(1, 30, (4, 9), generator=torch.Generator().manual_seed(2))
LENGTHS = torch.tensor([9, 2, 5, 1])
