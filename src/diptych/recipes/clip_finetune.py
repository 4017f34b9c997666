"""A trained CLIP or SigLIP tuned on your own pictures and captions with LoRA in both towers.

diptych train clip_finetune --base runs/clip --data photos --lora.rank 8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diptych.adapters.lora import LoraConfig
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.data.pixels.views import Views
from diptych.models.contrastive._on_base import adaptable
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.models.contrastive.fine_tuned import FineTunedTask
from diptych.recipes._pairs import SELECTED_BY, retrieval_on, split_data
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Stage, Train


@dataclass(frozen=True, kw_only=True)
class FineTuneRun(Run):
    """A base, LoRA, and pairs.

    Attributes:
        base: a run, a model folder, a `transformers` or open_clip folder, or a hub id.
        lora: rank and alpha, in the attention of both towers.
        views: augmentation of the pictures.
        held_out: how many training samples to select on, where the data has no "val" split of its own.
        masking: which share of patches and tokens is dropped before the towers in training.
        negatives: kinds of hard negatives that each pair is given one of; none for plain pairs.
        same_text: whether equal captions in a batch are positives of one another's pictures.
    """

    base: str = ""
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(8, 16.0))
    views: Views = field(default_factory=lambda: Views(crop_scale=(0.8, 1.0)))
    held_out: int = 500
    masking: Masking = field(default_factory=Masking)
    negatives: tuple[str, ...] = ()
    same_text: bool = False

    def stages(self) -> Sequence[Stage]:
        if not self.base:
            raise ConfigError("clip_finetune needs a trained model to start from: --base RUN_OR_FOLDER")
        train, held_out = split_data(self.data, self.held_out)
        return (
            Train(
                "train",
                source=lambda context: train,
                task=lambda context: self.task(),
                evaluate=lambda context: retrieval_on(held_out),
                best=SELECTED_BY,
            ),
        )

    def task(self) -> FineTunedTask:
        """LoRA on a fresh copy of the base.

        Raises:
            ConfigError: LoRA does not fit the base.
        """
        base = adaptable(load(self.base))
        settings = base.processor.config
        settings = replace(settings, image=replace(settings.image, views=self.views))
        settings = replace(settings, text=replace(settings.text, negatives=self.negatives))
        processor = ImageTextProcessor(settings, base.processor.tokenizer)
        return FineTunedTask(self.lora, processor, base, PairOptions(self.masking, self.same_text))


def clip_finetune() -> FineTuneRun:
    """A few minutes for a small base."""
    return FineTuneRun(
        name="clip_finetune",
        data="scenes",
        batch_size=64,
        budget=Budget(steps=200),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.0),
        schedule=WarmupCosine(warmup=20),
        evaluate_every=100,
    )
