"""An image tokenizer of 256 codes for pictures of 64 pixels, in about seven minutes of one CPU core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.core.source import Source
from diptych.core.task import Task
from diptych.data.images import ImagePreprocessing
from diptych.data.pictures import PictureProcessor
from diptych.evaluation.runner import evaluate
from diptych.models.image_tokenizer import vq
from diptych.recipes._pairs import split_data
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Evaluate, Stage, Train

SELECTED_BY = "psnr"


@dataclass(frozen=True, kw_only=True)
class VqRun(Run):
    """An image tokenizer from scratch, on pictures alone: captions are not looked at.

    Attributes:
        held_out: how many training samples to select on instead, where the data has no "val" split of its own.
    """

    model: vq.Config = field(default_factory=vq.Config.tiny)
    image: ImagePreprocessing = field(default_factory=lambda: ImagePreprocessing(64, mean=vq.MEAN, std=vq.STD))
    held_out: int = 500

    def stages(self) -> Sequence[Stage]:
        def task(context: Context) -> Task[Any]:
            return vq.VqTask(self.model, PictureProcessor(self.image))

        return (
            Train(
                "train",
                source=lambda context: split_data(self.data, self.held_out)[0],
                task=task,
                evaluate=lambda context: reconstruction_on(split_data(self.data, self.held_out)[1]),
                best=SELECTED_BY,
            ),
        )


def reconstruction_on(source: Source, limit: int = 500) -> Evaluate:
    """Decibels and code usage on held-out pictures."""

    def measure(model: Predictor) -> dict[str, float]:
        (result,) = evaluate(
            model, ["reconstruction"], source, limit=limit, settings={"reconstruction": {"examples": 0}}
        )
        names = (SELECTED_BY, "gain_over_mean_colour_db", "code_perplexity", "codes_used")
        return {name: result.metrics[name].value for name in names}

    return measure


def vq_tiny() -> VqRun:
    """Scenes of up to three objects; any pictures with `--data`."""
    return VqRun(
        name="vq_tiny",
        image=ImagePreprocessing(64, mean=vq.MEAN, std=vq.STD, views=None),
        threads=1,  # a batch this small has no work for two, and small batches learn most from the same pictures
        batch_size=4,
        budget=Budget(samples=28_000),
        optimizer=AdamWConfig(lr=2e-3, weight_decay=0.0, beta2=0.99),
        schedule=WarmupCosine(warmup=50),
        log_every=100,
        evaluate_every=1750,
    )
