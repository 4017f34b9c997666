"""Parti on scenes of one object, with the codes and the model that ranks trained first, in minutes of one CPU core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diptych.data.batches.image_text import ImagePreprocessing
from diptych.models.contrastive import clip
from diptych.models.generative import parti
from diptych.models.image_tokenizer import vq
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._generator import CONTRAST, GeneratorRun
from diptych.recipes._image_tokens import image_tokens, part_of, require_size, small_codes, trained_tokens
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage, Train


def _tiny() -> parti.Config:
    return replace(parti.Config.tiny(small_codes()), reranker=clip.Config.tiny(image_size=32, patch_size=4))


@dataclass(frozen=True, kw_only=True)
class PartiRun(GeneratorRun):
    """Words, codes, the contrastive model where there is one, then Parti between them.

    Attributes:
        codes, reranker: how these are trained.
    """

    model: parti.Config = field(default_factory=_tiny)
    codes: EarlierStage = field(default_factory=lambda: EarlierStage(2000, 8))
    reranker: EarlierStage = field(default_factory=lambda: EarlierStage(400, 64, 1e-3, weight_decay=0.1, beta2=0.98))

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size(self.model.codes, self.image)

    def stages(self) -> Sequence[Stage]:
        codes = image_tokens(self.model.codes, self.image, self.codes, self, self.training_data, self.selection_data)
        train = Train(
            "train",
            source=lambda context: self.training_data(),
            task=self._task,
            evaluate=self.evaluator,
            show=self.shown,
        )
        ranks = [] if self.model.reranker is None else [self.contrast(self.model.reranker, self.reranker)]
        return (self.tokenizer_stage(), codes, *ranks, train)

    def _task(self, context: Context) -> parti.PartiTask:
        processor = self.processor(context)
        ranks = None if self.model.reranker is None else part_of(context.trained(CONTRAST), "model.")
        sizes = self.model.with_vocabulary(processor.tokenizer.vocab_size)
        return parti.PartiTask(sizes, processor, trained_tokens(context), ranks)


def parti_tiny() -> PartiRun:
    """Scenes of 32 pixels as 64 codes of 128."""
    return PartiRun(
        name="parti_tiny",
        data="scenes?size=32&objects=1&words=0&zoom=2&patterns=0&noise=0",
        image=ImagePreprocessing(32, mean=vq.MEAN, std=vq.STD, views=None),
        vocab_size=512,
        threads=1,
        batch_size=32,
        budget=Budget(steps=2000),
        optimizer=AdamWConfig(lr=2e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=100),
        log_every=50,
        evaluate_every=1000,
    )
