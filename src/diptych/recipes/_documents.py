"""What recipes of models of documents share: words, codes of pictures, then the model over both."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.task import Task
from diptych.data.batches.documents import DocumentBatch, DocumentProcessor
from diptych.data.batches.image_text import ImageTextBatch, ImageTextProcessor
from diptych.evaluation.runner import evaluate
from diptych.models.generative._picture_codes import PictureCodes
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._generator import GeneratorRun
from diptych.recipes._image_tokens import image_tokens, require_size, trained_tokens
from diptych.training.stages import Context, Evaluate, Stage, Train

_CAPTIONED = 100
"""Samples of the selection data that are captioned."""


@dataclass(frozen=True, kw_only=True)
class DocumentRun(GeneratorRun):
    """A model of texts and pictures from scratch.

    Attributes:
        codes: how the picture's tokenizer is trained.
        interleaved: the most pictures of a document, where the data are documents; 0 where they are pairs.
    """

    codes: EarlierStage = field(default_factory=lambda: EarlierStage(2000, 8))
    interleaved: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interleaved < 0:
            raise ConfigError(f"interleaved {self.interleaved}: give the most pictures of a document, or 0 for pairs")
        require_size(self.pictures(), self.image)

    @abstractmethod
    def pictures(self) -> PictureCodes:
        """The picture's tokenizer of the model."""

    @abstractmethod
    def documents(
        self, processor: ImageTextProcessor | DocumentProcessor, tokenizer: Mapping[str, Tensor], context: Context
    ) -> Task[ImageTextBatch | DocumentBatch]:
        """The task with fresh weights around a trained tokenizer of pictures."""

    def between(self) -> Sequence[Stage]:
        """What else is trained before the model."""
        return ()

    def stages(self) -> Sequence[Stage]:
        codes = image_tokens(self.pictures(), self.image, self.codes, self, self.training_data, self.selection_data)
        train = Train(
            "train",
            source=lambda context: self.training_data(),
            task=lambda context: self.documents(self._documents(context), trained_tokens(context), context),
            evaluate=self.evaluator,
            show=self.shown,
        )
        return (self.tokenizer_stage(), codes, *self.between(), train)

    def _documents(self, context: Context) -> ImageTextProcessor | DocumentProcessor:
        pairs = self.processor(context)
        return DocumentProcessor(pairs, self.interleaved) if self.interleaved else pairs

    def evaluator(self, context: Context) -> Evaluate:
        """How far pictures show their prompts, and how good captions are; nothing of documents, which have neither."""
        if self.interleaved:
            return lambda model: {}
        source, pictures = self.selection_data(), super().evaluator(context)

        def measure(model: Predictor) -> dict[str, float]:
            (result,) = evaluate(model, ["captioning"], source, limit=_CAPTIONED)
            return {**pictures(model), "cider": result.metrics["cider"].value}

        return measure
