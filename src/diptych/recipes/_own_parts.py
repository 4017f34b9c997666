"""Pretrained parts for recipes that are given none: a vision tower by contrast and a language model on words alone.

Each is trained in a stage of its own, on scenes of its own, and written as a `transformers` folder; the stages after it
read such a folder as they read anybody's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors.torch import save_file

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.source import Source
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.derived.without import WithoutPictures
from diptych.data.open import open_source
from diptych.data.pixels.tower_inputs import read_tower_images
from diptych.data.words.chat import PlainTemplate
from diptych.layers.backbone_folder import read_backbone
from diptych.layers.causal_block import CausalConfig
from diptych.models.contrastive import clip
from diptych.models.pretrained_backbone._llama import Llama, LlamaConfig, described, public_state
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._text_task import TextTask
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._image_tokens import part_of
from diptych.recipes._pairs import PairsRun
from diptych.training.stages import Artifact, Context, Stage, Train, fit_tokenizer, fitted_tokenizer

CONTRAST, WORDS = "contrast", "words"
TOWER, LANGUAGE = "tower", "language"
END = "<end>"
"""Of fitted tokenizers."""
_TEMPLATE = PlainTemplate(end=END)
_FITTED = 20_000
"""Samples that the tokenizer is fitted to."""


@dataclass(frozen=True, kw_only=True)
class OwnParts(PairsRun):
    """A run on a vision tower and a language model.

    Attributes:
        image_tower, language_model: `transformers` folders; "" for parts that are trained first.
        seed_of_parts: of the scenes that these are trained on, others than those of the run.
        towers, contrast: the contrastive model whose tower is taken, and how it is trained.
        language, words: the language model, and how it is trained.
    """

    image_tower: str = ""
    language_model: str = ""
    seed_of_parts: int = 1
    towers: clip.Config = field(default_factory=lambda: clip.Config.tiny(image_size=48))
    contrast: EarlierStage = field(default_factory=lambda: EarlierStage(800, 64, 1e-3, weight_decay=0.1, beta2=0.98))
    language: LlamaConfig = field(default_factory=lambda: LlamaConfig(CausalConfig(128, 4, 4, 352), 512, 256))
    words: EarlierStage = field(default_factory=lambda: EarlierStage(800, 64, 1e-3, weight_decay=0.05, beta2=0.98))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_tower", "language_model"):
            if (folder := getattr(self, name)) and not Path(folder).is_dir():
                raise ConfigError(f"--{name}: no folder at {folder}")

    def tokenizer_stage(self, mask: bool = False) -> Artifact:
        """Fits the tokenizer to captions and conversations."""

        def said(context: Context) -> Iterator[str]:
            source = self._data_of_parts()
            for index in range(min(len(source), _FITTED)):
                try:
                    sample = source[index]
                except BadSample:
                    continue
                yield from sample.texts
                yield from (turn.text for turn in sample.turns)
            yield from (_TEMPLATE.user, _TEMPLATE.assistant)

        return fit_tokenizer(said, self.vocab_size, mask=mask)

    def own_stages(self) -> Sequence[Stage]:
        """Those that make what is not given."""
        found: list[Stage] = []
        if not (self.image_tower and self.language_model):
            found.append(self.tokenizer_stage())
        if not self.image_tower:
            found += [self._contrast(), Artifact(TOWER, self._write_tower)]
        return [*found, *self._language_stages()]

    def language_stages(self) -> Sequence[Stage]:
        """Those that make a language model alone, where none is given."""
        return [] if self.language_model else [self.tokenizer_stage(), *self._language_stages()]

    def _language_stages(self) -> Sequence[Stage]:
        return [] if self.language_model else [self._words(), Artifact(LANGUAGE, self._write_language)]

    def tower_folder(self, context: Context) -> Path:
        """Where the tower is read from."""
        return Path(self.image_tower) if self.image_tower else context.artifact(TOWER)

    def language_folder(self, context: Context) -> Path:
        """Where the language model is read from."""
        return Path(self.language_model) if self.language_model else context.artifact(LANGUAGE)

    def features(self, context: Context, layer: int, special: int) -> tuple[PatchFeatures, ImagePreprocessing]:
        """The tower's features, frozen, and how pictures are prepared for it.

        Args:
            layer, special: which states, and how many tokens before the patches are left out.
        """
        folder = self.tower_folder(context)
        images = read_tower_images(folder)
        tower = PatchFeatures(read_backbone(folder, "vision"), False, images.mean, images.std, layer, special)
        return tower, replace(self.image, mean=images.mean, std=images.std)

    def words_source(self) -> Source:
        """What an own language model is trained on."""
        return WithoutPictures(self._data_of_parts())

    def words_template(self) -> PlainTemplate:
        """How what it is trained on is written."""
        return _TEMPLATE

    def _data_of_parts(self) -> Source:
        """Other scenes than the run's; of other data the same, since there is no more."""
        if self.data.partition("?")[0] != "scenes":
            return self.training_data()
        mark = "&" if "?" in self.data else "?"
        return open_source(f"{self.data}{mark}seed={self.seed_of_parts}", "train")

    def _pairs(self, context: Context) -> ImageTextProcessor:
        return ImageTextProcessor(
            ImageTextConfig(self.image, TextPreprocessing(self.context)), fitted_tokenizer(context)
        )

    def _contrast(self) -> Train:
        def task(context: Context) -> clip.ClipTask:
            processor = self._pairs(context)
            return clip.ClipTask(self.towers.with_vocabulary(processor.tokenizer.vocab_size), processor)

        settings = self.contrast.applied_to(self)
        return Train(CONTRAST, source=lambda context: self._data_of_parts(), task=task, settings=settings)

    def _write_tower(self, context: Context, folder: Path) -> None:
        processor = self._pairs(context)
        sizes = self.towers.with_vocabulary(processor.tokenizer.vocab_size)
        module = clip.ClipPredictor.build(sizes, processor)
        module.load_state_dict(part_of(context.trained(CONTRAST), "model."))
        clip.export_to(clip.ClipPredictor(sizes, processor, module, "tower"), folder)

    def _words(self) -> Train:
        def task(context: Context) -> TextTask:
            words = fitted_tokenizer(context)
            settings = ConversationConfig(self.image, 1, 1, self.language.context)
            processor = ConversationProcessor(settings, words, self.words_template())
            return TextTask(replace(self.language, vocabulary=words.vocab_size), processor)

        settings = self.words.applied_to(self)
        return Train(WORDS, source=lambda context: self.words_source(), task=task, settings=settings)

    def _write_language(self, context: Context, folder: Path) -> None:
        words = fitted_tokenizer(context)
        model = Llama(replace(self.language, vocabulary=words.vocab_size))
        model.load_state_dict(part_of(context.trained(WORDS), "model."))
        (folder / "config.json").write_text(json.dumps(described(model.config), indent=1) + "\n", encoding="utf-8")
        save_file(public_state(model), folder / "model.safetensors")
        words.write(folder / "tokenizer.json")
