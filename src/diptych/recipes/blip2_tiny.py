"""BLIP-2 from its own parts: the Q-Former by itself, then through a frozen language model: captions, questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diptych.capabilities.predictor import Predictor
from diptych.core.source import Source
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.batches.instructions import InstructedProcessor
from diptych.data.derived.caption_as_context import CaptionAsContext
from diptych.data.derived.without import WithoutTurns
from diptych.data.words.chat import PlainTemplate, read_template
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.qformer import QFormerConfig
from diptych.models.pretrained_backbone import blip2, blip2_lm, instructblip
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._qformer_bridge import QFormerBridge
from diptych.recipes._answer_rates import answered
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._own_parts import END, OwnParts
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train, fitted_tokenizer

QUERIES, CAPTIONS = "queries", "captions"
_ASKED = 200
"""Questions of the selection data."""
_SIZES = QFormerConfig(queries=8, width=96, depth=4, heads=4, hidden=256, every=2)


@dataclass(frozen=True, kw_only=True)
class Blip2Run(OwnParts):
    """A tower and a language model, given or trained first and frozen for good, and the Q-Former between them.

    Attributes:
        qformer: its width of pictures, vocabulary and context follow from the tower, the captions and the questions.
        joint: width of the space in which pictures and texts are compared.
        layer, special: of the tower: which states, and how many tokens before the patches are left out.
        instructed: whether the queries are told what is asked (InstructBLIP).
        first: how the Q-Former is trained by itself; `captions`: then through the language model on captions.
        prompt: what is asked for a caption.
        max_length: the longest conversation in tokens.
    """

    qformer: QFormerConfig = _SIZES
    joint: int = 64
    layer: int = -1
    special: int = 1
    instructed: bool = False
    first: EarlierStage = field(default_factory=lambda: EarlierStage(500, 32, 1e-3, weight_decay=0.05))
    captions: EarlierStage = field(default_factory=lambda: EarlierStage(300, 32, 1e-3, weight_decay=0.05))
    prompt: str = "What does the picture show?"
    max_length: int = 256

    def stages(self) -> Sequence[Stage]:
        rounds = (
            Train(
                QUERIES,
                source=lambda context: WithoutTurns(self.training_data()),
                task=self._first,
                settings=self.first.applied_to(self),
            ),
            Train(
                CAPTIONS,
                source=lambda context: WithoutTurns(self.training_data()),
                task=self._second,
                settings=self.captions.applied_to(self),
            ),
            Train("train", source=lambda context: self.training_data(), task=self._last, evaluate=self.evaluator),
        )
        given = self.image_tower and self.language_model
        return (*([self.tokenizer_stage()] if given else []), *self.own_stages(), *rounds)

    def words_source(self) -> Source:
        return CaptionAsContext(self._data_of_parts(), self.prompt)

    def evaluator(self, context: Context) -> Evaluate:
        """The share of held-out questions that are answered word for word; without the picture, and with another's."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            return {
                "answered": answered(model, source, _ASKED),
                "withheld": answered(model, source, _ASKED, "withheld"),
                "swapped": answered(model, source, _ASKED, "swapped"),
            }

        return measure

    def _first(self, context: Context) -> blip2.Blip2Task:
        tower, image = self.features(context, self.layer, self.special)
        words = fitted_tokenizer(context)
        processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(self.context)), words)
        config = blip2.Config(self._sizes(tower, image, words), self.joint, self.layer, self.special)
        return blip2.Blip2Task(config, processor, tower)

    def _second(self, context: Context) -> blip2_lm.Blip2LmTask | instructblip.InstructBlipTask:
        task = self._bridged(context)
        bridge = task.model.connector
        assert isinstance(bridge, QFormerBridge), "both models stand on one"
        bridge.take_first_stage(context.trained(QUERIES))
        return task

    def _last(self, context: Context) -> blip2_lm.Blip2LmTask | instructblip.InstructBlipTask:
        task = self._bridged(context)
        task.load_state_dict(context.trained(CAPTIONS))
        return task

    def _bridged(self, context: Context) -> blip2_lm.Blip2LmTask | instructblip.InstructBlipTask:
        tower, image = self.features(context, self.layer, self.special)
        folder, asked = self.language_folder(context), fitted_tokenizer(context)
        sizes = self._sizes(tower, image, asked)
        settings = ConversationConfig(image, sizes.queries, 1, self.max_length, self.prompt)
        words, template = Tokenizer.from_folder(folder), read_template(folder) or PlainTemplate(end=END)
        if self.instructed:
            told = instructblip.Config(sizes, layer=self.layer, special=self.special)
            reader = InstructedProcessor(settings, words, template, asked, sizes.context)
            return instructblip.InstructBlipTask(told, reader, tower, read_language(folder), Trained())
        config = blip2_lm.Config(replace(sizes, vocabulary=0), layer=self.layer, special=self.special)
        processor = ConversationProcessor(settings, words, template)
        return blip2_lm.Blip2LmTask(config, processor, tower, read_language(folder), Trained())

    def _sizes(self, tower: PatchFeatures, image: ImagePreprocessing, words: Tokenizer) -> QFormerConfig:
        """What follows from the parts; one token more than the tokenizer's begins what the first stage writes."""
        _, channels = tower.shape(image.size)
        return replace(self.qformer, image_width=channels, vocabulary=words.vocab_size + 1, context=self.context)


def blip2_tiny() -> Blip2Run:
    """Scenes of 48 pixels as 8 vectors."""
    return Blip2Run(
        name="blip2_tiny",
        data="scenes?size=48&objects=2&words=0",
        image=ImagePreprocessing(48, views=None),
        words=EarlierStage(1500, 64, 1e-3, weight_decay=0.05, beta2=0.98),
        context=64,
        vocab_size=512,
        threads=1,
        batch_size=32,
        budget=Budget(steps=800),
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=50),
        log_every=50,
        evaluate_every=400,
    )
