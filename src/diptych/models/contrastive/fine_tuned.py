"""A contrastive model tuned on pairs with LoRA in both towers: its own loss, on your pictures and captions.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685, here in the attention of both
towers (`adapters/lora.py`). The base and its scale are frozen; the loss is the base's own, over the global batch. What
is saved is an adapted model (`adapted.py`), which can be merged into a plain one.

Departures: SigLIP's loss is computed on gathered rows, not round a ring.

B batch, D width of the joint space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from diptych.adapters.lora import LoraConfig
from diptych.core.losses import Losses
from diptych.core.sample import Sample
from diptych.core.task import Features, GlobalTask, LocalOutput
from diptych.data.batches.image_text import ImageTextBatch, ImageTextProcessor
from diptych.models.contrastive import siglip
from diptych.models.contrastive._on_base import tiny_base
from diptych.models.contrastive._options import PairOptions
from diptych.models.contrastive._two_towers import TwoTowerPredictor, TwoTowerTask
from diptych.models.contrastive.adapted import AdaptedPredictor, Config
from diptych.models.contrastive.clip import ClipPredictor, ClipTask
from diptych.models.contrastive.siglip import SiglipPredictor, SiglipTask

VERBS = ("encode_image", "encode_text")
READS = ()


class FineTunedTask(GlobalTask[ImageTextBatch]):
    """The base's loss on pairs; LoRA alone is trained.

    Args:
        base: a CLIP or SigLIP (`_on_base.adaptable`), which gets LoRA in place.
        processor: of the pairs; its tokens and picture size are the base's.
    """

    processor: ImageTextProcessor

    def __init__(
        self, lora: LoraConfig, processor: ImageTextProcessor, base: TwoTowerPredictor,
        options: PairOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        config = Config("lora", lora=lora)
        self.processor = processor
        self.pairs = _task_on_pairs(base, processor, options)
        self.adapted = AdaptedPredictor(config, base, (), AdaptedPredictor.build(config, base, ()), "lora")
        self.pairs.model = base.module

    def train(self, mode: bool = True) -> Self:
        """The base stays in evaluation mode."""
        super().train(mode)
        self.pairs.model.eval()
        return self

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        return self.pairs.features(batch, phase)

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        return self.pairs.losses_from(features, phase)

    def checkpoint_activations(self, on: bool) -> None:
        self.pairs.checkpoint_activations(on)

    def predictor(self) -> AdaptedPredictor:
        return self.adapted


def _task_on_pairs(base: TwoTowerPredictor, processor: ImageTextProcessor, options: PairOptions | None) -> TwoTowerTask:
    """The base's own task, with fresh weights."""
    if isinstance(base, ClipPredictor):
        return ClipTask(base.config, processor, options)
    assert isinstance(base, SiglipPredictor), "a base that is adaptable is one of both"
    return SiglipTask(base.config, processor, options)


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, FineTunedTask]:
    """Both losses at their smallest, with a rank that can learn eight samples by heart."""
    bases = {"clip": tiny_base(samples), "siglip": siglip.tiny_tasks(samples)["contrastive"].predictor()}
    return {name: FineTunedTask(LoraConfig(16, 64.0), base.processor, base) for name, base in bases.items()}
