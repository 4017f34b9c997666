"""MiniGPT-5 on scenes of one object: all that it stands on first, then vokens on captions, then documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError
from diptych.core.source import Source
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.derived.caption_as_context import CaptionAsContext
from diptych.data.derived.without import WithoutTurns
from diptych.data.open import open_source
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.words.chat import PlainTemplate
from diptych.data.words.tokenizer import Tokenizer
from diptych.evaluation.runner import evaluate
from diptych.layers.connectors import ConnectorConfig
from diptych.models.contrastive import clip
from diptych.models.pretrained_backbone import minigpt5
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._voken_mapper import MapperConfig
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._own_diffusion import OwnDiffusion, tiny_painter
from diptych.recipes._own_parts import END
from diptych.recipes._progress_pictures import made_of_captions
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Show, Stage, Train

ALIGNMENT = "alignment"
_DRAWN = 64
"""Prompts of the selection data."""


@dataclass(frozen=True, kw_only=True)
class MiniGpt5Run(OwnDiffusion):
    """A tower, a language model and a diffusion model, given or trained first and frozen for good; vokens between them.

    Attributes:
        model: sizes; its diffusion model's are those of what is drawn with.
        alignment: the first stage, on captions; the second is the run's own, on documents.
        documents: the data of the second stage; "" for documents of the run's own scenes.
        pictures: the most of a document that are read before one is drawn.
        max_length: the longest document in tokens.
    """

    model: minigpt5.Config
    alignment: EarlierStage = field(default_factory=lambda: EarlierStage(500, 32, 3e-4))
    documents: str = ""
    pictures: int = 3
    max_length: int = 192

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.documents and self.data.partition("?")[0] != "scenes":
            raise ConfigError("captions alone make no documents: name data whose samples have parts with --documents")

    def stages(self) -> Sequence[Stage]:
        first = Train(
            ALIGNMENT,
            source=lambda context: WithoutTurns(self.training_data()),
            task=lambda context: self._task(context, aligned=False),
            evaluate=self.evaluator,
            show=self.shown,
            settings=self.alignment.applied_to(self),
        )
        second = Train(
            "train", source=lambda context: self.pages(), task=self._second, evaluate=self.evaluator, show=self.shown
        )
        return (*self.own_stages(), *self.diffusion_stages(), first, second)

    def pages(self) -> Source:
        """The documents of the second stage."""
        own = f"{self.data}{'&' if '?' in self.data else '?'}kind=documents"
        return open_source(self.documents or own, "train")

    def words_source(self) -> Source:
        """Words by which the language model learns to look back for what it was told, as vokens must."""
        return CaptionAsContext(self._data_of_parts(), "What does the picture show?")

    def evaluator(self, context: Context) -> Evaluate:
        """How far pictures show what they are asked for, and how far those of other texts' vokens do; on scenes."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            if self.data.partition("?")[0] != "scenes":
                return {}
            (result,) = evaluate(model, ["prompt_agreement"], source, limit=_DRAWN)
            found = {name: result.metrics[name] for name in ("object", "colour", "all")}
            others = {f"{name}_others": float(metric.chance or 0) for name, metric in found.items()}
            return {name: metric.value for name, metric in found.items()} | others

        return measure

    def shown(self, context: Context) -> Show:
        """Pictures of the first held-out captions."""
        return made_of_captions(self.selection_data())

    def _second(self, context: Context) -> minigpt5.MiniGpt5Task:
        task = self._task(context, aligned=True)
        task.load_state_dict(context.trained(ALIGNMENT))
        return task

    def _task(self, context: Context, aligned: bool) -> minigpt5.MiniGpt5Task:
        painter = self.painter_of(context)
        model = replace(self.model, diffusion=painter.config)
        folder = self.language_folder(context)
        tower, image = self.features(context, model.layer, model.special)
        slots = model.tokens(tower.shape(image.size)[0])
        settings = ConversationConfig(image, slots, self.pictures, self.max_length, minigpt5.ASKED)
        talk = ConversationProcessor(settings, Tokenizer.from_folder(folder), PlainTemplate(end=END))
        return minigpt5.MiniGpt5Task(
            model, talk, painter.processor, tower, read_language(folder), painter.state,
            "multimodal" if aligned else "alignment", connector=True,
        )  # fmt: skip


def minigpt5_tiny() -> MiniGpt5Run:
    """Scenes of 32 pixels as 8 x 8 latents, and as one token of the language model."""
    return MiniGpt5Run(
        name="minigpt5_tiny",
        data="scenes?size=32&objects=1&words=0&zoom=2&patterns=0&noise=0",
        image=ImagePreprocessing(32, views=None),
        towers=clip.Config.tiny(image_size=32),
        model=minigpt5.Config(
            ConnectorConfig("average", queries=1), diffusion=tiny_painter(), vokens=4, mapper=MapperConfig(2, 4, 2)
        ),
        context=24,
        vocab_size=512,
        threads=1,
        batch_size=16,
        budget=Budget(steps=150),
        optimizer=AdamWConfig(lr=5e-4, weight_decay=0.01),
        schedule=WarmupCosine(warmup=20),
        log_every=50,
        evaluate_every=150,
    )
