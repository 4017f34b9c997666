"""Two locked pretrained towers and a head on each, on photographs with captions: minutes on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from diptych.core.source import Source
from diptych.core.task import Task
from diptych.data.batches.features import KeysOnly, TowerProcessor
from diptych.data.cached.feature_rows import FeatureRows
from diptych.layers.frozen_pass import Precision
from diptych.models.contrastive import locked_clip
from diptych.recipes._pairs import SELECTED_BY, report_on, retrieval_on, split_data
from diptych.recipes._towers import Towers, all_rows, image_features, text_features
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Stage, Train


@dataclass(frozen=True, kw_only=True)
class LockedClipRun(Run):
    """Caches the features of both towers, trains the heads on them, and reads the val split once, at the end.

    Attributes:
        image_tower, text_tower: `transformers` folders; the text tower is a sentence encoder.
        model: the heads.
        image_size: pictures are squashed to this side; 0 for the geometry that the image tower's folder names.
        mirrored: whether the features of mirrored pictures are trained on too.
        max_length: the longest caption in tokens.
        tower_precision, tower_batch: of the pass of the towers that are locked.
        cache: where features are kept from run to run; "" for inside the run's folder.
        held_out: how many training samples to select on.
    """

    image_tower: str = ""
    text_tower: str = ""
    model: locked_clip.Config = field(default_factory=locked_clip.Config)
    image_size: int = 0
    mirrored: bool = True
    max_length: int = 128
    tower_precision: Precision = "auto"
    tower_batch: int = 64
    cache: str = ""
    held_out: int = 500

    def stages(self) -> Sequence[Stage]:
        return (
            Train(
                "train",
                source=lambda context: self.training_data(),
                task=self.task,
                evaluate=lambda context: retrieval_on(split_data(self.data, self.held_out)[1]),
                best=SELECTED_BY,
            ),
            report_on(self.data, "val"),
        )

    def training_data(self) -> Source:
        """What is trained on; where both towers are locked, only its keys are read once its features are cached."""
        train = split_data(self.data, self.held_out)[0]
        return train if self.model.train_image or self.model.train_text else KeysOnly(train)

    def task(self, context: Context) -> Task[Any]:
        """Heads that standardise by the features of the training data."""
        towers = Towers.read(self.model, self.image_tower, self.text_tower, self.max_length, self.image_size)
        if context.world.is_main:
            self.features(towers, context)
        if context.world.size > 1:
            torch.distributed.barrier()
        image_rows, text_rows = self.features(towers, context)
        processor = TowerProcessor(towers.images, towers.texts, image_rows, text_rows)
        sizes = replace(self.model, image_features=towers.image_width(), text_features=towers.text_width())
        task = locked_clip.LockedClipTask(sizes, processor, towers.image, towers.text)
        for head, rows in ((task.model.image_head, image_rows), (task.model.text_head, text_rows)):
            if rows is not None:
                head.standardise_by(all_rows(rows))
        return task

    def features(self, towers: Towers, context: Context) -> tuple[FeatureRows | None, FeatureRows | None]:
        """Cached features of each side that is locked."""
        root = Path(self.cache) if self.cache else context.folder.artifact("features")
        source = split_data(self.data, self.held_out)[0]
        how = (context.device, self.tower_precision, self.tower_batch, self.loader_threads)
        return (
            None if self.model.train_image else image_features(root, source, towers, *how, mirrored=self.mirrored),
            None if self.model.train_text else text_features(root, source, towers, *how),
        )


def flickr8k_lit() -> LockedClipRun:
    """About five minutes from a cold cache on two cores: MobileNetV2 and a small sentence encoder will do.

    Epochs are many because they cost only the heads; dropout of the features themselves is what keeps 5,500 photographs
    from being learned by heart.
    """
    return LockedClipRun(
        name="flickr8k_lit",
        data="",
        image_size=256,
        batch_size=512,
        precision="auto",
        budget=Budget(samples=500_000),
        model=locked_clip.Config(input_dropout=0.5, mirror_average=True),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.1),
        schedule=WarmupCosine(warmup=50),
        evaluate_every=330,
    )
