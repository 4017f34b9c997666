"""VisualBERT on scenes of one object, in a few minutes on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import TextPreprocessing
from diptych.data.batches.other_captions import OtherCaptions
from diptych.data.batches.region_text import RegionTextConfig, RegionTextProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.pixels.region_detector import FolderDetector
from diptych.data.pixels.regions import RegionConfig
from diptych.evaluation.runner import evaluate
from diptych.layers.feature_map import ConvMapConfig
from diptych.models.early_fusion import visualbert
from diptych.recipes._pairs import PairsRun, all_captions
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train, fitted_tokenizer

SELECTED_BY = "matching_accuracy"
_MEASURED_ON = 500
"""Samples of the selection data."""


@dataclass(frozen=True, kw_only=True)
class VisualBertRun(PairsRun):
    """A VisualBERT from scratch, with what makes its region features.

    Attributes:
        regions: which regions of a picture are looked at.
        mismatched: the share of pairs with a caption of another picture.
        word_masking: the share of words that are to be filled in.
    """

    model: visualbert.Config = field(default_factory=visualbert.Config.tiny)
    regions: RegionConfig = field(default_factory=RegionConfig)
    mismatched: float = 0.5
    word_masking: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model.features, ConvMapConfig):
            raise ConfigError("this recipe trains what makes region features: leave model.features a convolutional map")

    def stages(self) -> Sequence[Stage]:
        train = Train(
            "train",
            source=lambda context: self.training_data(),
            task=self._task,
            evaluate=self.evaluator,
            best=SELECTED_BY,
        )
        return (self.tokenizer_stage(mask=True), train)

    def evaluator(self, context: Context) -> Evaluate:
        """How often a picture's own caption scores above another's."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            (result,) = evaluate(model, ["matching"], source, limit=_MEASURED_ON)
            return {SELECTED_BY: result.metrics["accuracy"].value}

        return measure

    def _task(self, context: Context) -> visualbert.VisualBertTask:
        settings = RegionTextConfig(self.image, TextPreprocessing(self.context), self.regions, self.mismatched)
        tokenizer = fitted_tokenizer(context)
        others = OtherCaptions(list(all_captions(self.training_data())))
        detector = FolderDetector(Path(self.regions.detector)) if self.regions.detector else None
        processor = RegionTextProcessor(settings, tokenizer, others, detector)
        sizes = self.model.with_vocabulary(tokenizer.vocab_size)
        return visualbert.VisualBertTask(sizes, processor, self.word_masking)


def visualbert_tiny() -> VisualBertRun:
    """Regions are the whole picture and the cells of two grids, so that it is evaluated on the picture alone.

    One object a picture: with two or three, so short a training tells captions apart but finds no hidden word. More
    words are hidden than the paper's 15 %: captions here are short, and few of their words speak of what is seen.
    """
    return VisualBertRun(
        name="visualbert_tiny",
        data="scenes?objects=1&words=0",
        image=ImagePreprocessing(64, resize="squash", views=None),
        vocab_size=512,
        mismatched=0.4,
        word_masking=0.4,
        batch_size=64,
        budget=Budget(steps=1500),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=150),
        evaluate_every=500,
    )
