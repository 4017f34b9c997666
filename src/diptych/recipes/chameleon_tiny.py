"""Chameleon on scenes of one object, with the codes of pictures trained first, in minutes of one CPU core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from diptych.data.batches.documents import DocumentProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextProcessor
from diptych.models.generative import chameleon
from diptych.models.generative._document_rows import pairs_of
from diptych.models.generative._picture_codes import PictureCodes
from diptych.models.image_tokenizer import vq
from diptych.recipes._documents import DocumentRun
from diptych.recipes._image_tokens import small_codes
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context


@dataclass(frozen=True, kw_only=True)
class ChameleonRun(DocumentRun):
    """Chameleon from scratch."""

    model: chameleon.Config = field(default_factory=lambda: chameleon.Config.tiny(small_codes()))

    def pictures(self) -> PictureCodes:
        return self.model.codes

    def documents(
        self, processor: ImageTextProcessor | DocumentProcessor, tokenizer: Mapping[str, Tensor], context: Context
    ) -> chameleon.ChameleonTask:
        sizes = self.model.with_vocabulary(pairs_of(processor).tokenizer.vocab_size)
        return chameleon.ChameleonTask(sizes, processor, tokenizer)


def chameleon_tiny() -> ChameleonRun:
    """Scenes of 32 pixels as 64 codes of 128."""
    return ChameleonRun(
        name="chameleon_tiny",
        data="scenes?size=32&objects=1&words=0&zoom=2&patterns=0&noise=0",
        image=ImagePreprocessing(32, mean=vq.MEAN, std=vq.STD, views=None),
        context=48,
        vocab_size=512,
        threads=1,
        batch_size=32,
        budget=Budget(steps=2000),
        optimizer=AdamWConfig(lr=2e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=100),
        log_every=50,
        evaluate_every=1000,
    )
