"""CoCoOp: learned context that depends on the picture.

Zhou et al. 2022, "Conditional Prompt Learning for Vision-Language Models", arXiv 2203.05557. As CoOp, but a small
network maps a picture's vector x to one vector that is added to each of the M context vectors, so every picture has
class texts of its own:

    t_c(x) = text([v_1 + h(x)] ... [v_M + h(x)] [class c]),    logit_c = scale cos(x, t_c(x))

A batch of B pictures and C classes costs B C passes of the text tower, in training and in use. A text has no vector of
its own, so the model scores and does not encode text.

Departures: as in `adapted.py`.

B batch, N pictures, M texts, C classes, T tokens, D width of the joint space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.adapters.context import ContextConfig, LearnedContext, MetaNet
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.data.batches.classes import ClassBatch, ClassProcessor
from diptych.models.contrastive._class_texts import context_start, spoken, tokens_with_room
from diptych.models.contrastive._on_base import OnBase, OnBasePredictor, OnBaseTask, class_processor, tiny_base
from diptych.models.contrastive._two_towers import TwoTowerPredictor, TwoTowers

VERBS = ("encode_image", "score")
READS = ()

TEXTS_AT_ONCE = 4096
"""Rows of the text tower in one pass when predicting."""


@dataclass(frozen=True)
class Config(ModelConfig):
    """The context and the network that shifts it.

    Attributes:
        context: shared by all classes.
        reduction: of the network's hidden layer.
    """

    context: ContextConfig = field(default_factory=ContextConfig)
    reduction: int = 16

    def __post_init__(self) -> None:
        if self.context.class_specific:
            raise ConfigError("CoCoOp's context is shared by all classes: leave context.class_specific off")


class ConditionalContext(OnBase):
    """The base, the context, and the network that shifts it."""

    frozen_texts = False

    def __init__(self, base: TwoTowers, context: LearnedContext, meta: MetaNet) -> None:
        super().__init__(base)
        self.context, self.meta = context, meta

    def cosines(self, image_BD: Tensor, tokens_MT: Tensor, lengths_M: Tensor) -> Tensor:
        """[B, M] of unit vectors with texts as each of them makes them."""
        batch, texts = len(image_BD), len(tokens_MT)
        shift = self.meta(image_BD).repeat_interleave(texts, dim=0)
        vectors = self.context(self.base.text, tokens_MT.repeat(batch, 1), lengths_M.repeat(batch), shift)
        text_BMD = F.normalize(self.base.text_head(vectors), dim=-1).view(batch, texts, -1)
        return torch.einsum("bd,bmd->bm", image_BD, text_BMD)


class CocoopTask(OnBaseTask):
    """Cross-entropy over the classes; every picture's class texts are encoded at every step."""

    model: ConditionalContext

    def __init__(self, config: Config, processor: ClassProcessor, base: TwoTowerPredictor) -> None:
        super().__init__(processor)
        self.config = config
        self.base = base
        self.model = CocoopPredictor.build(config, base, processor.config.names)
        names = [spoken(name) for name in processor.config.names]
        self.class_tokens = tokens_with_room(base, names, self.model.context.length)

    def logits(self, batch: ClassBatch) -> Tensor:
        image_BD = self.model.placed(self.image_vectors(batch))
        tokens_CT, lengths_C = (rows.to(image_BD.device) for rows in self.class_tokens)
        return self.model.scale * self.model.cosines(image_BD, tokens_CT, lengths_C)

    def predictor(self) -> CocoopPredictor:
        return CocoopPredictor(self.config, self.base, self.processor.config.names, self.model, "cocoop")


class CocoopPredictor(OnBasePredictor):
    """Encodes pictures, and scores them with class names as they make them."""

    VERBS = VERBS
    CONFIG = Config
    config: Config
    module: ConditionalContext

    @torch.inference_mode()
    def score(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """Cosines [N, M] of pictures and class names, with each picture's context around them: N M texts are read."""
        tokens_MT, lengths_M = (
            rows.to(self.device) for rows in tokens_with_room(self.base, texts, self.module.context.length)
        )
        rows = max(TEXTS_AT_ONCE // max(len(texts), 1), 1)

        def run(vectors_BD: Tensor) -> Tensor:
            some = torch.split(self.module.placed(vectors_BD), rows)
            return torch.cat([self.module.cosines(image_BD, tokens_MT, lengths_M) for image_BD in some])

        return self.over_pictures(visuals, run)

    @classmethod
    def build(cls, config: Config, base: TwoTowerPredictor, classes: Sequence[str]) -> ConditionalContext:
        start_MD, head = context_start(base, config.context.words), base.processor.tokenizer.num_control - 1
        width, joint = base.module.text.config.width, base.module.text_head.out_features
        assert isinstance(joint, int)
        context = LearnedContext(config.context, width, head, 0, start_MD)
        return ConditionalContext(base.module, context, MetaNet(joint, width, config.reduction))


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, CocoopTask]:
    """Its one task at its smallest on a tiny CLIP, for the classes of the samples."""
    names = tuple(sorted({str(sample.meta["class"]) for sample in samples}))
    base = tiny_base(samples)
    return {"classification": CocoopTask(Config(ContextConfig(4)), class_processor(base, names), base)}
