"""What runs of LLaVA share: the task on folders of its parts, and features of the tower that are computed once."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from diptych.core.source import Source
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.cached.picture_features import PictureFeatures
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.pixels.tower_inputs import read_tower_images
from diptych.data.words.chat import PlainTemplate, Template, read_template
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import read_backbone
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.recipes._picture_rows import Pass, picture_features
from diptych.training.run import Run
from diptych.training.stages import Context


@dataclass(frozen=True, kw_only=True)
class OnLlava(Run):
    """A run that trains LLaVA on folders of a tower and of a language model.

    Attributes:
        image: preprocessing and views.
        trained: what is trained.
        prompt: what is asked for a caption.
        pictures: the most of a conversation.
        max_length: the longest conversation in tokens.
        packed: tokens of a row that conversations share in training, so that little is computed on padding; 0 for a row
            each.
        cached: whether what the tower makes of the training pictures is computed once, wherever it is frozen; needs
            pictures without views.
        cache: where it is kept from run to run; "" for inside the run's folder.
        mirrored: whether mirrored pictures are cached, and trained on, too.
        compile_tower: whether the tower is compiled for that: a minute once, faster after it.
    """

    image: ImagePreprocessing = field(default_factory=ImagePreprocessing)
    model: llava.Config = field(default_factory=llava.Config)
    trained: Trained = field(default_factory=lambda: Trained(language=True))
    prompt: str = ""
    pictures: int = 1
    max_length: int = 256
    packed: int = 0
    cached: bool = False
    cache: str = ""
    mirrored: bool = False
    compile_tower: bool = False

    @abstractmethod
    def training_data(self) -> Source:
        """What is trained on."""

    @abstractmethod
    def tower_folder(self, context: Context) -> Path:
        """Where the tower is read from."""

    @abstractmethod
    def language_folder(self, context: Context) -> Path:
        """Where the language model is read from."""

    def template(self, language: Path, words: Tokenizer) -> Template:
        """How conversations are written: as the language model's folder says, else plainly."""
        return read_template(language) or PlainTemplate(end=str(words.backend.id_to_token(words.end_id)))

    def llava_task(self, context: Context, trained: Trained) -> llava.LlavaTask:
        """The task with a fresh connector."""
        folder = self.tower_folder(context)
        images = read_tower_images(folder)
        tower = PatchFeatures(
            read_backbone(folder, "vision"), False, images.mean, images.std, self.model.layer, self.model.special
        )
        language = self.language_folder(context)
        words = Tokenizer.from_folder(language)
        image = replace(self.image, mean=images.mean, std=images.std)
        places, _ = tower.shape(image.size)
        settings = ConversationConfig(image, self.model.tokens(places), self.pictures, self.max_length, self.prompt)
        features = self._features(context, tower, image) if self.cached and not trained.tower else None
        processor = ConversationProcessor(settings, words, self.template(language, words), features)
        return llava.LlavaTask(self.model, processor, tower, read_language(language), trained, self.packed)

    def _features(self, context: Context, tower: PatchFeatures, image: ImagePreprocessing) -> PictureFeatures:
        """Of the training pictures; the first process computes what is missing, the others read it."""
        root = Path(self.cache) if self.cache else context.folder.artifact("features")
        how = Pass(context.device, threads=self.loader_threads, compiled=self.compile_tower)
        if context.world.is_main:
            picture_features(root, self.training_data(), tower, image, how, self.mirrored)
        if context.world.size > 1:
            torch.distributed.barrier()
        return picture_features(root, self.training_data(), tower, image, how, self.mirrored)
