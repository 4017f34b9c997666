"""A frozen base with learned context, visual prompts, a feature adapter or LoRA: what each puts where.

B batch, C channels, H height, W width, N texts, T tokens, D width of the joint space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.adapters.context import LearnedContext
from diptych.adapters.feature_adapter import FeatureAdapter
from diptych.adapters.lora import LoraConfig, add_lora
from diptych.adapters.visual_prompts import VisualPrompts
from diptych.models.contrastive._class_texts import tokens_with_room
from diptych.models.contrastive._on_base import OnBase
from diptych.models.contrastive._two_towers import TwoTowerPredictor, TwoTowers


class WithContext(OnBase):
    """CoOp: learned vectors in the place of the words around a name."""

    frozen_texts = False

    def __init__(self, base: TwoTowers, context: LearnedContext) -> None:
        super().__init__(base)
        self.context = context

    def encode_text(self, tokens_NT: Tensor, lengths_N: Tensor, classes_N: Tensor | None = None) -> Tensor:
        """Unit vectors [N, D] of names.

        Args:
            classes_N: which class each is, where classes have contexts of their own.
        """
        vectors = self.context(self.base.text, tokens_NT, lengths_N, classes_N=classes_N)
        return F.normalize(self.base.text_head(vectors), dim=-1)


class WithPrompts(OnBase):
    """VPT: learned tokens beside the patches."""

    frozen_images = False

    def __init__(self, base: TwoTowers, prompts: VisualPrompts) -> None:
        super().__init__(base)
        self.prompts = prompts

    def image_vectors(self, pixels_BCHW: Tensor) -> Tensor:
        out: Tensor = self.base.image_head(self.prompts(self.base.vision, self.base.normalise(pixels_BCHW)))
        return out


class WithFeatureAdapter(OnBase):
    """CLIP-Adapter: a small network behind the image tower."""

    def __init__(self, base: TwoTowers, adapter: FeatureAdapter) -> None:
        super().__init__(base)
        self.adapter = adapter

    def placed(self, vectors_BD: Tensor) -> Tensor:
        return F.normalize(self.adapter(vectors_BD), dim=-1)


class WithLora(OnBase):
    """LoRA: a low-rank change of the attention of both towers."""

    frozen_images = False
    frozen_texts = False

    def __init__(self, base: TwoTowers, config: LoraConfig) -> None:
        super().__init__(base)
        add_lora(self.base, config)


def encode_texts(model: OnBase, base: TwoTowerPredictor, texts: Sequence[str], classes: Sequence[int]) -> Tensor:
    """Unit vectors [N, D] of texts as they are given to the text side; `classes` says which class each names."""
    device = model.scale.device
    if isinstance(model, WithContext):
        tokens_NT, lengths_N = tokens_with_room(base, texts, model.context.length)
        of_classes = torch.tensor(list(classes), device=device) if model.context.vectors.ndim == 3 else None
        return model.encode_text(tokens_NT.to(device), lengths_N.to(device), of_classes)
    tokens_NT, lengths_N = base.processor.tokens(texts)
    return model.encode_text(tokens_NT.to(device), lengths_N.to(device))
