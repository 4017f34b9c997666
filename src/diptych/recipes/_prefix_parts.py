"""The parts of a model whose pictures stand among words, from folders: what every recipe of one begins with."""

from __future__ import annotations

from typing import NamedTuple

from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.words.chat import Template
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.pretrained_backbone._language_folder import read_language
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefix_model import BridgeConfig
from diptych.recipes._own_parts import OwnParts
from diptych.training.stages import Context


class PrefixParts(NamedTuple):
    """What a task of `PrefixTask` is built from, in its order."""

    processor: ConversationProcessor
    tower: PatchFeatures
    language: LanguageModel


def read_parts(
    run: OwnParts, context: Context, config: BridgeConfig, template: Template, max_length: int, prompt: str,
    pictures: int = 1,
) -> PrefixParts:  # fmt: skip
    """Fresh copies of the run's tower and language model, and a processor that counts the tokens of a picture.

    Args:
        prompt: what is asked for a caption.
        pictures: the most of a conversation.

    Raises:
        CheckpointError: a folder holds no such part.
        ConfigError: the tower's features do not fit the model's sizes.
    """
    language = run.language_folder(context)
    tower, image = run.features(context, config.layer, config.special)
    features, _ = tower.shape(image.size)
    settings = ConversationConfig(image, config.tokens(features), pictures, max_length, prompt)
    processor = ConversationProcessor(settings, Tokenizer.from_folder(language), template)
    return PrefixParts(processor, tower, read_language(language))
