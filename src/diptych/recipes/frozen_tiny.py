"""Frozen: a vision encoder that begins from nothing is trained through a language model that is never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.batches.image_text import ImagePreprocessing
from diptych.data.derived.episodes import EpisodeConfig
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import model_of, transformers_for
from diptych.layers.causal_block import CausalConfig
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import frozen
from diptych.models.pretrained_backbone._interleaved import plain_template
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._llama import LlamaConfig
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.recipes._captions_and_episodes import CaptionsAndEpisodes
from diptych.recipes._earlier_stage import EarlierStage
from diptych.recipes._own_parts import END
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Stage, Train


@dataclass(frozen=True)
class EncoderConfig:
    """A residual network from nothing; as everywhere here its batch norms are affine maps, so that it is free of
    normalisers as the paper's is.

    Attributes:
        widths, depths: of each stage; the first sees a quarter of the picture's side, each one after it half as much.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (1, 1, 1)

    def features(self) -> PatchFeatures:
        """With fresh weights.

        Raises:
            MissingExtra: transformers is not installed.
        """
        config = transformers_for("a vision encoder").ResNetConfig(
            embedding_size=self.widths[0], hidden_sizes=list(self.widths), depths=list(self.depths), layer_type="basic"
        )
        return PatchFeatures(model_of(config), special=0)


@dataclass(frozen=True, kw_only=True)
class FrozenRun(CaptionsAndEpisodes):
    """A language model, given or trained first and frozen for good, and an encoder that learns to speak to it."""

    model: frozen.Config = field(default_factory=frozen.Config)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def stages(self) -> Sequence[Stage]:
        train = Train("train", source=lambda context: self.documents(), task=self._task, evaluate=self.evaluator)
        return (*self.language_stages(), train)

    def _task(self, context: Context) -> frozen.FrozenTask:
        folder, tower = self.language_folder(context), self.encoder.features()
        features, _ = tower.shape(self.image.size)
        settings = ConversationConfig(self.image, self.model.tokens(features), self.pictures, self.max_length)
        processor = ConversationProcessor(settings, Tokenizer.from_folder(folder), plain_template(END))
        return frozen.FrozenTask(self.model, processor, tower, read_language(folder), frozen.TRAINED)


def frozen_tiny() -> FrozenRun:
    """Scenes of one large object on 32 pixels, each two vectors before the words of a language model."""
    return FrozenRun(
        name="frozen_tiny",
        data="scenes?size=32&objects=1&zoom=2&words=0",
        image=ImagePreprocessing(32, mean=(0.5,) * 3, std=(0.5,) * 3, views=None),
        model=frozen.Config(ConnectorConfig("pooled", queries=2), special=0),
        episodes=EpisodeConfig(queries=4, by="present"),
        language=LlamaConfig(CausalConfig(96, 3, 4, 256), 512, 256),
        words=EarlierStage(1000, 32, 2e-3, weight_decay=0.05, beta2=0.98),
        context=64,
        vocab_size=512,
        threads=1,
        batch_size=32,
        budget=Budget(steps=600),
        optimizer=AdamWConfig(lr=2e-3, weight_decay=0.05),
        schedule=WarmupCosine(warmup=50),
        log_every=50,
        evaluate_every=200,
    )
