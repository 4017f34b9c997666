"""A ViT classifier of the shape in scenes of one object, in about a minute on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.capabilities.predictor import Predictor
from diptych.core.processor import BadSample
from diptych.core.source import Source
from diptych.core.task import Task
from diptych.data.batches.classes import ClassConfig, ClassProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.pixels.views import Views
from diptych.evaluation.runner import evaluate
from diptych.models.supervised import vit_classifier
from diptych.recipes._pairs import split_data
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Evaluate, Stage, Train


@dataclass(frozen=True, kw_only=True)
class VitRun(Run):
    """A classifier from scratch; its classes are those of the training data.

    Attributes:
        held_out: how many training samples to select on instead, where the data has no "val" split of its own.
    """

    model: vit_classifier.Config = field(default_factory=vit_classifier.Config.tiny)
    image: ImagePreprocessing = field(default_factory=ImagePreprocessing)
    held_out: int = 500

    def stages(self) -> Sequence[Stage]:
        def task(context: Context) -> Task[Any]:
            names = class_names(split_data(self.data, self.held_out)[0])
            return vit_classifier.VitClassifierTask(self.model, ClassProcessor(ClassConfig(names, self.image)))

        return (
            Train(
                "train",
                source=lambda context: split_data(self.data, self.held_out)[0],
                task=task,
                evaluate=lambda context: accuracy_on(split_data(self.data, self.held_out)[1]),
                best="top1",
            ),
        )


def class_names(source: Source, most: int = 5_000) -> tuple[str, ...]:
    """The classes of the first samples, in order of the alphabet."""
    names = set()
    for index in range(min(len(source), most)):
        try:
            names.add(source[index].meta.get("class"))
        except BadSample:
            continue
    return tuple(sorted(str(name) for name in names - {None}))


def accuracy_on(source: Source, limit: int = 500) -> Evaluate:
    """Top-1 accuracy on held-out data."""

    def measure(model: Predictor) -> dict[str, float]:
        (result,) = evaluate(model, ["zero_shot_classification"], source, limit=limit)
        return {name: result.metrics[name].value for name in ("top1", "mean_per_class")}

    return measure


def vit_tiny() -> VitRun:
    """Six shapes, anywhere in the picture, in any colour."""
    return VitRun(
        name="vit_tiny",
        data="scenes?objects=1",
        image=ImagePreprocessing(64, views=Views(crop_scale=(0.8, 1.0), flip=0.5)),
        batch_size=64,
        budget=Budget(steps=600),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=300,
    )
