"""CoCa on scenes of several objects, at about the size of clip_tiny, in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diptych.capabilities.predictor import Predictor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.pixels.views import Views
from diptych.evaluation.runner import evaluate
from diptych.models.generative import coca
from diptych.recipes._pairs import SELECTED_BY, PairsRun, retrieval_on
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train, fitted_tokenizer

_CAPTIONED = 100
"""Samples of the selection data that are captioned."""


@dataclass(frozen=True, kw_only=True)
class CocaRun(PairsRun):
    """A CoCa from scratch.

    Attributes:
        weights: of the two losses.
    """

    model: coca.Config = field(default_factory=coca.Config.tiny)
    weights: coca.Weights = field(default_factory=coca.Weights)

    def stages(self) -> Sequence[Stage]:
        train = Train(
            "train",
            source=lambda context: self.training_data(),
            task=self._task,
            evaluate=self.evaluator,
            best=SELECTED_BY,
        )
        return (self.tokenizer_stage(), train)

    def evaluator(self, context: Context) -> Evaluate:
        """Recalls, and how good captions are."""
        source = self.selection_data()
        recalls = retrieval_on(source)

        def measure(model: Predictor) -> dict[str, float]:
            (result,) = evaluate(model, ["captioning"], source, limit=_CAPTIONED)
            return {**recalls(model), "cider": result.metrics["cider"].value}

        return measure

    def _task(self, context: Context) -> coca.CocaTask:
        tokenizer = fitted_tokenizer(context)
        words = TextPreprocessing(self.context, pad_to_max=self.model.text_end == "open_clip")
        settings = ImageTextConfig(self.image, words)
        sizes = self.model.with_vocabulary(tokenizer.vocab_size).for_texts(self.context, tokenizer.pad_id)
        return coca.CocaTask(sizes, ImageTextProcessor(settings, tokenizer), self.weights)


def coca_tiny() -> CocaRun:
    """Crops stay close to the whole picture: captions speak of places."""
    return CocaRun(
        name="coca_tiny",
        data="scenes",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.95, 1.0), ratio=(0.95, 1.05))),
        vocab_size=512,
        batch_size=64,
        budget=Budget(steps=800),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=80),
        evaluate_every=400,
    )
