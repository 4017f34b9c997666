"""What recipes of models that make pictures of texts share: a contrastive stage, and how the model is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.capabilities.predictor import Predictor
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.evaluation.runner import evaluate
from diptych.layers.text_transformer import TextConfig
from diptych.models.contrastive import clip
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._pairs import PairsRun
from diptych.recipes._progress_pictures import made_of_captions
from diptych.training.stages import Context, Evaluate, Show, Train, fitted_tokenizer

_MEASURED_ON = 48
"""Prompts of the selection data."""

CONTRAST = "contrast"


@dataclass(frozen=True, kw_only=True)
class GeneratorRun(PairsRun):
    """A run whose model has `generate_image`."""

    def evaluator(self, context: Context) -> Evaluate:
        """How far pictures of held-out prompts show what they say, where the data are scenes; nothing elsewhere."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            if self.data.partition("?")[0] != "scenes":
                return {}
            (result,) = evaluate(model, ["prompt_agreement"], source, limit=_MEASURED_ON)
            return {name: result.metrics[name].value for name in ("object", "colour", "all")}

        return measure

    def shown(self, context: Context) -> Show:
        """Pictures of the first held-out captions."""
        return made_of_captions(self.selection_data())

    def processor(self, context: Context, padded: bool = False) -> ImageTextProcessor:
        """Pictures and captions for the fitted tokenizer."""
        settings = ImageTextConfig(self.image, TextPreprocessing(self.context, pad_to_max=padded))
        return ImageTextProcessor(settings, fitted_tokenizer(context))

    def contrast(self, towers: clip.Config, stage: EarlierStage, padded: bool = False) -> Train:
        """A stage that trains a CLIP on the run's pairs."""

        def task(context: Context) -> clip.ClipTask:
            processor = self.processor(context, padded)
            return clip.ClipTask(towers.with_vocabulary(processor.tokenizer.vocab_size), processor)

        return Train(CONTRAST, source=lambda context: self.training_data(), task=task, settings=stage.applied_to(self))


def beside(text: TextConfig, image_size: int) -> clip.Config:
    """A CLIP with this text tower and an image tower of the tiny size."""
    return replace(clip.Config.tiny(text.vocab_size, image_size), text=text)
