"""InstructBLIP: BLIP-2's second stage whose queries are told what is asked.

Dai et al. 2023, "InstructBLIP", arXiv 2305.06500, section 2.3. The instruction goes into the Q-Former beside
the queries, so that what is taken from the picture depends on it; the language model reads it too. All else is
blip2_lm.py's. In a conversation of several questions the queries are told all of them.

N pictures, Q queries, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.capabilities.load import folder_of
from diptych.core.errors import ConfigError, TextTooLong
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.batches.conversation_reader import ConversationConfig, ConversationTokens
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.batches.instructions import Asked, InstructedBatch, InstructedProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.qformer import QFormerConfig
from diptych.models.pretrained_backbone._blip2_folder import read_folder
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefix_model import BridgeConfig, PrefixPredictor, PrefixTask
from diptych.models.pretrained_backbone._prefixed import Prefixed, Trained
from diptych.models.pretrained_backbone._qformer_bridge import QFormerBridge, QFormerBridgeConfig
from diptych.models.pretrained_backbone._templates import read_saved
from diptych.models.pretrained_backbone._tiny_parts import tiny_parts

VERBS = ("generate_text", "text_likelihood", "answer")
READS = ("InstructBlipForConditionalGeneration",)
_READER = "reader"


@dataclass(frozen=True)
class Config(QFormerBridgeConfig):
    """A Q-Former that reads text.

    Raises:
        ConfigError: it has no vocabulary.
    """

    def __post_init__(self) -> None:
        if not self.qformer.vocabulary:
            raise ConfigError("InstructBLIP's Q-Former reads what is asked: give qformer.vocabulary, or take blip2_lm")


class Instructed(Prefixed):
    """Sees pictures with what is asked of them."""

    def seen(self, batch: ConversationBatch) -> Tensor:
        assert isinstance(batch, InstructedBatch), "conversations with what they ask"
        return self._told(self.features(batch), batch.of_pictures())

    def see_for(self, pixels_NCHW: Tensor, asked: Asked) -> Tensor:
        """Vectors [N, Q, D] of pictures, each told what is asked of it."""
        return self._told(self.tower(pixels_NCHW), asked)

    def _told(self, features_NSC: Tensor, asked: Asked) -> Tensor:
        assert isinstance(self.connector, QFormerBridge), "a Q-Former"
        return self.connector.told(features_NSC, asked.tokens, asked.lengths)


class InstructBlipPredictor(PrefixPredictor[Config]):
    """Talks about a picture."""

    VERBS = VERBS
    CONFIG = Config
    MODULE = Instructed
    module: Instructed
    processor: InstructedProcessor

    @classmethod
    def build(
        cls, config: BridgeConfig, processor: ConversationProcessor, tower: PatchFeatures, language: LanguageModel
    ) -> Prefixed:
        """The module with a fresh bridge.

        Raises:
            ConfigError: something does not fit: pictures, words, or the words that the Q-Former reads.
        """
        assert isinstance(config, Config) and isinstance(processor, InstructedProcessor), "InstructBLIP's own"
        if processor.reader.vocab_size > config.qformer.vocabulary:
            raise ConfigError(
                f"what is asked has {processor.reader.vocab_size} kinds of tokens, and qformer.vocabulary is "
                f"{config.qformer.vocabulary}"
            )
        return super().build(config, processor, tower, language)

    def seen(self, read: Sequence[ConversationTokens], pictures: Sequence[Any]) -> Tensor:
        slots = self.processor.config.slots
        repeats = torch.tensor([sum(one.places) // slots for one in read])
        try:
            tokens, lengths = self.processor.asked(read)
        except BadSample as bad:
            raise TextTooLong(f"this prompt cannot be read: {bad.detail}") from bad
        asked = Asked(*(one.repeat_interleave(repeats, dim=0).to(self.device) for one in (tokens, lengths)))
        return self.module.see_for(self.pixels(pictures).to(self.device), asked)

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        (folder / _READER).mkdir(exist_ok=True)
        self.processor.reader.write(folder / _READER / "tokenizer.json")

    @classmethod
    def restored_processor(cls, config: Any, settings: ConversationConfig, folder: Path) -> InstructedProcessor:
        words, reader = (Tokenizer.read(path / "tokenizer.json") for path in (folder, folder / _READER))
        return InstructedProcessor(settings, words, read_saved(folder), reader, config.qformer.context)


class InstructBlipTask(PrefixTask[Config]):
    """What the assistant says, of a bridge that is told what is asked."""

    PREDICTOR = InstructBlipPredictor
    NAME = "instructblip"


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, InstructBlipTask]:
    """At its smallest, on random parts of which the language model is trained too."""
    plain, tower, language = tiny_parts(samples, 4)
    words = plain.tokenizer
    config = Config(QFormerConfig(4, 64, 2, 2, 128, 32, 2, words.vocab_size, 256), layer=-1, special=1)
    processor = InstructedProcessor(plain.config, words, plain.template, words, config.qformer.context)
    return {"causal": InstructBlipTask(config, processor, tower, language, Trained(language=True))}


def weights_from(reference: str | Path) -> InstructBlipPredictor:
    """A transformers InstructBlipForConditionalGeneration folder or hub id.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder has a part that is not done here.
        DataError: the tokenizer of what is asked is missing.
    """
    public = read_folder(folder_of(reference), instructed=True)
    config = Config(public.qformer, layer=-1, special=0, normed=False)
    plain, reader = public.processor, Tokenizer.from_folder(public.path / "qformer_tokenizer")
    processor = InstructedProcessor(plain.config, plain.tokenizer, plain.template, reader, public.qformer.context)
    module = InstructBlipPredictor.build(config, processor, public.tower, public.language)
    public.fill(module.connector)
    return InstructBlipPredictor(config, processor, module.eval(), public.path.name)
