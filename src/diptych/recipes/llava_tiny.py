"""LLaVA in two rounds: the connector on captions, then the connector and the language model on conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from diptych.capabilities.predictor import Predictor
from diptych.data.captions_only import CaptionsOnly
from diptych.data.chat import PlainTemplate, Template, read_template
from diptych.data.conversations import ConversationConfig, ConversationProcessor
from diptych.data.image_text import ImagePreprocessing
from diptych.data.picture_features import PictureFeatures
from diptych.data.text import Tokenizer
from diptych.data.tower_inputs import read_tower_images
from diptych.layers.connectors import ConnectorConfig
from diptych.layers.pretrained import read_backbone
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._answered import answered
from diptych.recipes._earlier import EarlierStage
from diptych.recipes._own_parts import OwnParts
from diptych.recipes._picture_rows import Pass, picture_features
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
        cached: whether what the tower makes of the training pictures is computed once, wherever it is frozen; needs
            pictures without views.
        cache: where it is kept from run to run; "" for inside the run's folder.
        mirrored: whether mirrored pictures are cached, and trained on, too.
        compile_tower: whether the tower is compiled for that: a minute once, faster after it.
    """

    model: llava.Config = field(default_factory=llava.Config)
    captions: EarlierStage = field(default_factory=lambda: EarlierStage(400, 32, 2e-3))
    trained: Trained = field(default_factory=lambda: Trained(language=True))
    prompt: str = "What does the picture show?"
    max_length: int = 256
    cached: bool = False
    cache: str = ""
    mirrored: bool = False
    compile_tower: bool = False

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
        words = Tokenizer.from_folder(language)
        image = replace(self.image, mean=images.mean, std=images.std)
        places, _ = tower.shape(image.size)
        settings = ConversationConfig(image, self.model.tokens(places), 1, self.max_length, self.prompt)
        features = self._features(context, tower, image) if self.cached and not trained.tower else None
        processor = ConversationProcessor(settings, words, self.template(language, words), features)
        return llava.LlavaTask(self.model, processor, tower, read_language(language), trained)

    def template(self, language: Path, words: Tokenizer) -> Template:
        """How conversations are written: as the language model's folder says, else plainly."""
        return read_template(language) or PlainTemplate(end=str(words.backend.id_to_token(words.end_id)))

    def _features(self, context: Context, tower: PatchFeatures, image: ImagePreprocessing) -> PictureFeatures:
        """Of the training pictures; the first process computes what is missing, the others read it."""
        root = Path(self.cache) if self.cache else context.folder.artifact("features")
        how = Pass(context.device, threads=self.loader_threads, compiled=self.compile_tower)
        if context.world.is_main:
            picture_features(root, self.training_data(), tower, image, how, self.mirrored)
        if context.world.size > 1:
            torch.distributed.barrier()
        return picture_features(root, self.training_data(), tower, image, how, self.mirrored)


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
