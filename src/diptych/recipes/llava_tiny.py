"""LLaVA in two rounds: the connector on captions, then the connector and the language model on conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from diptych.capabilities.predictor import Predictor
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.captions_only import CaptionsOnly
from diptych.data.chat import PlainTemplate, read_template
from diptych.data.conversations import ConversationConfig, ConversationProcessor
from diptych.data.image_text import ImagePreprocessing
from diptych.data.text import Tokenizer
from diptych.data.tower_inputs import read_tower_images
from diptych.layers.connectors import ConnectorConfig
from diptych.layers.pretrained import read_backbone
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._earlier import EarlierStage
from diptych.recipes._own_parts import END, OwnParts
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Stage, Train

_ASKED = 200
"""Questions of the selection data."""


@dataclass(frozen=True, kw_only=True)
class LlavaRun(OwnParts):
    """A tower and a language model, given or trained first, and what joins them.

    Attributes:
        captions: how the connector is trained by itself; its steps 0 for no such round.
        trained: what the second round trains.
        prompt: what is asked for a caption.
        max_length: the longest conversation in tokens.
    """

    model: llava.Config = field(default_factory=llava.Config)
    captions: EarlierStage = field(default_factory=lambda: EarlierStage(400, 32, 2e-3))
    trained: Trained = field(default_factory=lambda: Trained(language=True))
    prompt: str = "What does the picture show?"
    max_length: int = 256

    def stages(self) -> Sequence[Stage]:
        first = Train(
            "captions",
            source=lambda context: CaptionsOnly(self.training_data()),
            task=lambda context: self._task(context, Trained()),
            settings=self.captions.applied_to(self),
        )
        second = Train(
            "train",
            source=lambda context: self.training_data(),
            task=self._second,
            evaluate=self.evaluator,
        )
        return (*self.own_stages(), first, second)

    def evaluator(self, context: Context) -> Evaluate:
        """The share of held-out questions that are answered word for word."""
        source = self.selection_data()

        def measure(model: Predictor) -> dict[str, float]:
            return {"answered": answered(model, source, _ASKED)}

        return measure

    def _second(self, context: Context) -> llava.LlavaTask:
        task = self._task(context, self.trained)
        task.load_state_dict(context.trained("captions"))
        return task

    def _task(self, context: Context, trained: Trained) -> llava.LlavaTask:
        folder = self.tower_folder(context)
        images = read_tower_images(folder)
        tower = PatchFeatures(
            read_backbone(folder, "vision"), False, images.mean, images.std, self.model.layer, self.model.special
        )
        language = self.language_folder(context)
        template = read_template(language) or PlainTemplate(end=END)
        image = replace(self.image, mean=images.mean, std=images.std)
        features, _ = tower.shape(image.size)
        slots = self.model.connector.tokens(features)
        settings = ConversationConfig(image, slots, 1, self.max_length, self.prompt)
        processor = ConversationProcessor(settings, Tokenizer.from_folder(language), template)
        return llava.LlavaTask(self.model, processor, tower, read_language(language), trained)


@torch.inference_mode()
def answered(model: Predictor, source: Source, most: int) -> float:
    """The share of the first questions of a source that a model answers word for word."""
    samples: list[Sample] = [source[index] for index in range(min(most, len(source)))]
    asked = [sample for sample in samples if len(sample.turns) > 1]
    if not asked:
        return 0.0
    said = model.answer([one.image for one in asked], [one.turns[0].text for one in asked])
    right = [_plain(text) == _plain(one.turns[1].text) for text, one in zip(said, asked, strict=True)]
    return sum(right) / len(right)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def llava_tiny() -> LlavaRun:
    """Scenes of 48 pixels as 36 features, through an MLP."""
    return LlavaRun(
        name="llava_tiny",
        data="scenes?size=48&objects=2&words=0",
        image=ImagePreprocessing(48, views=None),
        model=llava.Config(ConnectorConfig("mlp"), layer=-1),
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
