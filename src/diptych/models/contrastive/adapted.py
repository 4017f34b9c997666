"""A contrastive model adapted to classes by a few pictures: CoOp, VPT, CLIP-Adapter, LoRA.

Everything of the base is frozen; the classes' logits are its cosines at its own scale, and the loss is their
cross-entropy. What is trained, and where it stands, is said in `adapters/`: learned context in the place of the prompt
(CoOp, arXiv 2109.01134), tokens beside the patches (VPT, arXiv 2203.12119), a small network behind the image tower
(CLIP-Adapter, arXiv 2110.04544), a low-rank change of both towers' attention (LoRA, arXiv 2106.09685). The adapted
model reads any text: with CoOp, the learned context is put around it.

Departures: one schedule for all methods, AdamW, and pictures that are not augmented (the papers crop and flip), so that
what is frozen is computed once.

N pictures or texts, C classes, D width of the joint space.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from diptych.adapters.context import ContextConfig, LearnedContext
from diptych.adapters.feature_adapter import FeatureAdapter
from diptych.adapters.lora import LoraConfig, merged
from diptych.adapters.visual_prompts import VisualPrompts
from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.data.batches.classes import ClassBatch, ClassProcessor
from diptych.layers.vision_transformer import VisionTransformer
from diptych.models._batches import batches
from diptych.models.contrastive._adapted_towers import (
    WithContext,
    WithFeatureAdapter,
    WithLora,
    WithPrompts,
    encode_texts,
)
from diptych.models.contrastive._class_texts import context_start, spoken, tokens_with_room
from diptych.models.contrastive._on_base import OnBase, OnBasePredictor, OnBaseTask, class_processor, tiny_base
from diptych.models.contrastive._two_towers import PREDICTION_BATCH, TwoTowerPredictor

VERBS = ("encode_image", "encode_text")
READS = ()

Method = Literal["coop", "vpt_shallow", "vpt_deep", "clip_adapter", "lora"]


@dataclass(frozen=True)
class Config(ModelConfig):
    """The method and its sizes.

    Attributes:
        template: how the classes are named to the text tower; CoOp learns what stands around them instead.
        context: of CoOp.
        prompts: of VPT, for each layer that has some.
        reduction, ratio: of CLIP-Adapter.
        lora: of LoRA.
    """

    method: Method = "coop"
    template: str = "a photo of a {}"
    context: ContextConfig = field(default_factory=ContextConfig)
    prompts: int = 8
    reduction: int = 4
    ratio: float = 0.2
    lora: LoraConfig = field(default_factory=LoraConfig)

    def texts(self, names: Sequence[str]) -> list[str]:
        """What the text side is given for class names."""
        template = "{}" if self.method == "coop" else self.template
        return [template.format(spoken(name)) for name in names]


class AdaptedTask(OnBaseTask):
    """Cross-entropy over the classes, whose texts are encoded at every step where training changes them, else once."""

    def __init__(self, config: Config, processor: ClassProcessor, base: TwoTowerPredictor) -> None:
        super().__init__(processor)
        self.config = config
        self.base = base
        self.names = processor.config.names
        self.model: OnBase = AdaptedPredictor.build(config, base, self.names)
        self._texts_CD: Tensor | None = None

    def logits(self, batch: ClassBatch) -> Tensor:
        image_BD = self.model.placed(self.image_vectors(batch))
        return self.model.scale * image_BD @ self.class_texts().T

    def class_texts(self) -> Tensor:
        """Unit vectors [C, D]."""
        if not self.model.frozen_texts:
            return self._encoded()
        weight, kept = self.model.scale, self._texts_CD
        if kept is None or (kept.device, kept.dtype.itemsize) != (weight.device, weight.dtype.itemsize):
            with torch.no_grad():
                self._texts_CD = kept = self._encoded()
        return kept

    def _encoded(self) -> Tensor:
        return encode_texts(self.model, self.base, self.config.texts(self.names), range(len(self.names)))

    def predictor(self) -> AdaptedPredictor:
        return AdaptedPredictor(self.config, self.base, self.names, self.model, self.config.method)


class AdaptedPredictor(OnBasePredictor):
    """Encodes pictures and strings as the base does, with what was learned; its score is their cosine."""

    VERBS = VERBS
    CONFIG = Config
    config: Config

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [N, D] on the CPU; with CoOp, of class names with the learned context around them.

        Raises:
            ConfigError: a text is none of the classes, each of which has a context of its own.
        """
        rows = [
            encode_texts(self.module, self.base, some, self._classes(some)).float().cpu()
            for some in batches(texts, PREDICTION_BATCH)
        ]
        return torch.cat(rows) if rows else torch.zeros(0)

    def _classes(self, texts: Sequence[str]) -> list[int]:
        """Which class each text is, where that matters."""
        if not (isinstance(self.module, WithContext) and self.module.context.vectors.ndim == 3):
            return []
        places = {spoken(name): place for place, name in enumerate(self.classes)}
        if unknown := [text for text in texts if spoken(text) not in places]:
            raise ConfigError(
                f"{self.name} learned a context for each of its {len(places)} classes, and '{unknown[0]}' is none of "
                f"them: train with --context.no_class_specific for one that goes with any text"
            )
        return [places[spoken(text)] for text in texts]

    def merged(self) -> TwoTowerPredictor:
        """The base with LoRA's change added into its weights: a plain model of the base's class.

        Raises:
            ConfigError: another method, whose part cannot be added into the base.
        """
        if not isinstance(self.module, WithLora):
            raise ConfigError(f"{self.config.method} adds a part that the base does not have: only lora can be merged")
        base = self.base
        return type(base)(base.config, base.processor, merged(self.module.base), base.name)

    @classmethod
    def build(cls, config: Config, base: TwoTowerPredictor, classes: Sequence[str]) -> OnBase:
        towers = base.module
        if config.method == "coop":
            start_MD, count = context_start(base, config.context.words), len(classes)
            own, head = count if config.context.class_specific else 0, base.processor.tokenizer.num_control - 1
            context = LearnedContext(config.context, towers.text.config.width, head, own, start_MD)
            tokens_with_room(base, ["a"], context.length)
            return WithContext(towers, context)
        if config.method == "clip_adapter":
            width = base.module.text_head.out_features
            assert isinstance(width, int)
            return WithFeatureAdapter(towers, FeatureAdapter(width, config.reduction, config.ratio))
        if not isinstance(towers.vision, VisionTransformer):
            raise ConfigError(
                f"{config.method} needs a vision transformer, and the image tower of {base.name} is a "
                f"{type(towers.vision).__name__}: take coop or clip_adapter, or another base"
            )
        if config.method == "lora":
            return WithLora(towers, config.lora)
        return WithPrompts(towers, VisualPrompts(towers.vision.config, config.prompts, config.method == "vpt_deep"))


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, AdaptedTask]:
    """Each method at its smallest on a tiny CLIP, for the classes of the samples."""
    names = tuple(sorted({str(sample.meta["class"]) for sample in samples}))
    tasks: dict[str, AdaptedTask] = {}
    methods: tuple[Method, ...] = ("coop", "vpt_shallow", "vpt_deep", "clip_adapter", "lora")
    for method in methods:
        base = tiny_base(samples)
        config = Config(method, context=ContextConfig(4), ratio=0.5)
        tasks[method] = AdaptedTask(config, class_processor(base, names), base)
    return tasks


def export_to(predictor: AdaptedPredictor, folder: Path) -> None:
    """Writes the merged model as a `transformers` folder of the base's kind.

    Raises:
        ConfigError: a method that cannot be merged, or a base that has no such format.
    """
    plain = predictor.merged()
    importlib.import_module(type(plain).__module__).export_to(plain, folder)
