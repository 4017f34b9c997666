"""CM3Leon on scenes of one object, with the codes of pictures trained first, in minutes of one CPU core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from diptych.data.batches.documents import DocumentProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextProcessor
from diptych.data.derived.subset import Subset
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.models.generative import cm3leon
from diptych.models.generative._document_rows import pairs_of
from diptych.models.generative._picture_codes import PictureCodes
from diptych.models.image_tokenizer import vq
from diptych.recipes._documents import DocumentRun
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._generator import CONTRAST
from diptych.recipes._image_tokens import part_of, small_codes
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage

_REMEMBERED = 64
"""Pairs that are put into the memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Cm3LeonRun(DocumentRun):
    """CM3Leon from scratch; what finds documents, where it does, is trained before it, and reads the training data.

    Attributes:
        retriever: how the contrastive model is trained.
    """

    model: cm3leon.Config = field(default_factory=lambda: cm3leon.Config.tiny(small_codes()))
    retriever: EarlierStage = field(default_factory=lambda: EarlierStage(400, 64, 1e-3, weight_decay=0.1, beta2=0.98))

    def pictures(self) -> PictureCodes:
        return self.model.codes

    def between(self) -> Sequence[Stage]:
        retrieval = self.model.retrieval
        return (self.contrast(retrieval.retriever, self.retriever),) if retrieval.documents else ()

    def documents(
        self, processor: ImageTextProcessor | DocumentProcessor, tokenizer: Mapping[str, Tensor], context: Context
    ) -> cm3leon.Cm3LeonTask:
        sizes = self.model.with_vocabulary(pairs_of(processor).tokenizer.vocab_size)
        if not sizes.retrieval.documents:
            return cm3leon.Cm3LeonTask(sizes, processor, tokenizer)
        task = cm3leon.Cm3LeonTask(sizes, processor, tokenizer, part_of(context.trained(CONTRAST), "model."))
        source, threads = self.training_data(), self.loader_threads
        some = Subset(source, range(min(len(source), sizes.retrieval.documents)))
        task.remember(EvaluationBatches(some, pairs_of(processor), _REMEMBERED, threads, self.bad_threshold))
        return task


def cm3leon_tiny() -> Cm3LeonRun:
    """Scenes of 32 pixels as 64 codes of 128."""
    return Cm3LeonRun(
        name="cm3leon_tiny",
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
