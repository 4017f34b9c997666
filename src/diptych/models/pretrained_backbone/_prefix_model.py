"""Models whose pictures stand as vectors among words: their sizes, their task, and how they are saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from diptych.adapters.language import LanguageAdapterConfig
from diptych.adapters.lora import merged
from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.task import Task
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import backbone_from_config
from diptych.layers.connectors import Connector, ConnectorConfig
from diptych.models.pretrained_backbone._adapted_language import adapted
from diptych.models.pretrained_backbone._conversation_predictor import ConversationPredictor
from diptych.models.pretrained_backbone._language_folder import language_from_config
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefixed import Prefixed, Trained
from diptych.models.pretrained_backbone._templates import read_saved, write_saved
from diptych.objectives.autoregressive import next_token_loss


class BridgeConfig(ModelConfig, ABC):
    """What stands between tower and language model, and what is read of the tower.

    Attributes:
        layer: of the tower's hidden states: -1 for the last, -2 for those before the last block.
        special: tokens of the tower before its patches.
        adapter: what is trained of the language model in place of all of it.
    """

    layer: int
    special: int
    adapter: LanguageAdapterConfig

    @abstractmethod
    def tokens(self, features: int) -> int:
        """How many vectors the features of a picture become.

        Raises:
            ConfigError: so many features cannot be taken.
        """

    @abstractmethod
    def bridge(self, features: int, channels: int, width: int) -> Connector:
        """With fresh weights, from `features` of `channels` numbers each to vectors of `width`.

        Raises:
            ConfigError: they do not fit.
        """


@dataclass(frozen=True)
class PrefixConfig(BridgeConfig):
    """Any connector."""

    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    layer: int = -1
    special: int = 1
    adapter: LanguageAdapterConfig = field(default_factory=LanguageAdapterConfig)

    def tokens(self, features: int) -> int:
        return self.connector.tokens(features)

    def bridge(self, features: int, channels: int, width: int) -> Connector:
        return self.connector.build(features, channels, width)


C = TypeVar("C", bound=BridgeConfig)


class PrefixPredictor(ConversationPredictor[C], Generic[C]):
    """Talks about pictures.

    Attributes:
        CONFIG: the class of its sizes.
        MODULE: the class of its module.
    """

    CONFIG: type[BridgeConfig]
    MODULE: type[Prefixed] = Prefixed

    @classmethod
    def build(
        cls, config: BridgeConfig, processor: ConversationProcessor, tower: PatchFeatures, language: LanguageModel
    ) -> Prefixed:
        """The module with a fresh connector, and a fresh adapter inside the language model where there is one.

        Raises:
            ConfigError: pictures take another number of tokens than the processor counts, words do not fit, or there
                is nothing that the adapter changes.
            MissingExtra: an adapter without peft.
        """
        settings, words = processor.config, processor.tokenizer
        features, channels = tower.shape(settings.image.size)
        if (count := config.tokens(features)) != settings.slots:
            raise ConfigError(
                f"the tower's {features} features become {count} tokens of the language model, and the processor "
                f"counts {settings.slots}: set slots to {count}"
            )
        if words.vocab_size > language.vocabulary:
            raise ConfigError(f"the tokenizer has {words.vocab_size} tokens, the language model {language.vocabulary}")
        bridge = config.bridge(features, channels, language.width)
        return cls.MODULE(tower, bridge, *adapted(language, config.adapter))

    def merged(self) -> Self:
        """The same model with its adapter added into the language model's weights: nothing is left of it but its words.

        Raises:
            ConfigError: there is no adapter, or one that stands beside the weights.
        """
        config: Any = self.config
        if config.adapter.method in ("none", "prompt", "prefix"):
            raise ConfigError(f"{self.name} has no adapter that could be merged: its method is {config.adapter.method}")
        module = merged(self.module)
        module.adapter = frozenset()
        return type(self)(replace(config, adapter=LanguageAdapterConfig()), self.processor, module, self.name)

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        write_saved(self.processor.template, folder)

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config: Any = from_plain(cls.CONFIG, description["model"])
        settings = from_plain(ConversationConfig, description["processor"])
        processor, image = cls.restored_processor(config, settings, folder), settings.image
        backbone = backbone_from_config(folder / "tower", "vision")
        tower = PatchFeatures(backbone, False, image.mean, image.std, config.layer, config.special)
        module = cls.build(config, processor, tower, language_from_config(folder / "language"))
        return cls(config, processor, module, str(description["name"]))

    @classmethod
    def restored_processor(cls, config: Any, settings: ConversationConfig, folder: Path) -> ConversationProcessor:
        """What `save_files` wrote of the processor."""
        return ConversationProcessor(settings, Tokenizer.read(folder / "tokenizer.json"), read_saved(folder))


class PrefixTask(Task[ConversationBatch], Generic[C]):
    """Next-token loss of what the assistant says.

    Attributes:
        PREDICTOR, NAME: of the model.
    """

    PREDICTOR: type[PrefixPredictor[Any]]
    NAME: str
    processor: ConversationProcessor

    def __init__(
        self, config: C, processor: ConversationProcessor, tower: PatchFeatures, language: LanguageModel,
        trained: Trained, packed: int = 0,
    ) -> None:  # fmt: skip
        """
        Args:
            tower, language: pretrained; what of them is trained is `trained`'s to say.
            packed: tokens of a row that conversations share (layers/packing.py); 0 for a row each.

        Raises:
            ConfigError: conversations cannot share rows in this language model; or the tower is trained, and the
                processor gives features of it that were computed before.
        """
        super().__init__()
        if trained.tower and processor.features is not None:
            raise ConfigError(
                "features of a tower that is trained cannot be cached: train it uncached, or leave trained.tower off"
            )
        self.config = config
        self.processor = processor
        self.model = self.PREDICTOR.build(config, processor, tower, language)
        self.model.set_trained(trained)
        self.model.set_packed(packed)

    def losses(self, batch: ConversationBatch, phase: str = "main") -> Losses:
        return {"answers": answers_part(self.model, batch)}

    def predictor(self) -> PrefixPredictor[C]:
        return self.PREDICTOR(self.config, self.processor, self.model, self.NAME)


def answers_part(module: Prefixed, batch: ConversationBatch) -> Part:
    """The negative log-probability of what the assistant says, and of how many tokens it is the sum."""
    said = module(batch)
    loss = next_token_loss(said.states_BAD, said.labels_BA, module.logits).cross_entropy
    return Part(loss, int((said.labels_BA != IGNORED).sum()))
