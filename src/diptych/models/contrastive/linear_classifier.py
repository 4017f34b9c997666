"""A linear classifier on a frozen contrastive model: the linear probe, trained as adapters are.

Radford et al. 2021, arXiv 2103.00020, section 3.2: logits = scale W f + b, on the base's unit vectors f. It begins at
zero, knows nothing of the class names, and is what prompts and adapters have to beat with few pictures.

Departures: the joint space is read, as by every other method here, not the tower before its head; no penalty is
searched (the benchmark `linear_probe` does that, for whole data sets).

N pictures, M texts, C classes, D width of the joint space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diptych.capabilities.verbs import Comparable
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.data.batches.classes import ClassBatch, ClassProcessor
from diptych.models.contrastive._class_texts import spoken
from diptych.models.contrastive._on_base import OnBase, OnBasePredictor, OnBaseTask, class_processor, tiny_base
from diptych.models.contrastive._two_towers import TwoTowerPredictor, TwoTowers

VERBS = ("encode_image", "score")
READS_TEXT = False
READS = ()


@dataclass(frozen=True)
class Config(ModelConfig):
    """Nothing to choose."""


class WithClassifier(OnBase):
    """The base and a linear map of its unit vectors."""

    def __init__(self, base: TwoTowers, width: int, classes: int) -> None:
        super().__init__(base)
        self.classifier = nn.Linear(width, classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def logits(self, vectors_BD: Tensor) -> Tensor:
        """[B, C] of what `image_vectors` gives; the scale makes a step of the weights one of the logits."""
        out: Tensor = self.classifier(self.scale * self.placed(vectors_BD))
        return out


class LinearClassifierTask(OnBaseTask):
    """Cross-entropy over the classes."""

    model: WithClassifier

    def __init__(self, config: Config, processor: ClassProcessor, base: TwoTowerPredictor) -> None:
        super().__init__(processor)
        self.config = config
        self.base = base
        self.model = LinearClassifierPredictor.build(config, base, processor.config.names)

    def logits(self, batch: ClassBatch) -> Tensor:
        return self.model.logits(self.image_vectors(batch))

    def predictor(self) -> LinearClassifierPredictor:
        names = self.processor.config.names
        return LinearClassifierPredictor(self.config, self.base, names, self.model, "linear_probe")


class LinearClassifierPredictor(OnBasePredictor):
    """Encodes pictures, and scores them against the class names it was trained on."""

    VERBS = VERBS
    READS_TEXT = READS_TEXT
    CONFIG = Config
    comparable_over = Comparable.TEXTS
    config: Config
    module: WithClassifier

    @torch.inference_mode()
    def score(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """Log-probabilities [N, M] of the named classes.

        Raises:
            ConfigError: a text is not one of its class names.
        """
        places = {spoken(name): place for place, name in enumerate(self.classes)}
        if unknown := [text for text in texts if spoken(text) not in places]:
            raise ConfigError(
                f"{self.name} scores its own {len(places)} class names only, and '{unknown[0]}' is none of them: "
                f"use the template '{{}}' and data with these classes"
            )
        logits_NC = self.over_pictures(visuals, self.module.logits)
        return logits_NC.log_softmax(-1)[:, [places[spoken(text)] for text in texts]]

    @classmethod
    def build(cls, config: Config, base: TwoTowerPredictor, classes: Sequence[str]) -> WithClassifier:
        width = base.module.text_head.out_features
        assert isinstance(width, int)
        return WithClassifier(base.module, width, len(classes))


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, LinearClassifierTask]:
    """Its one task at its smallest on a tiny CLIP, for the classes of the samples."""
    names = tuple(sorted({str(sample.meta["class"]) for sample in samples}))
    base = tiny_base(samples)
    return {"classification": LinearClassifierTask(Config(), class_processor(base, names), base)}
