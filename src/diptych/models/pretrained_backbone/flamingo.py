"""Flamingo: a frozen language model that looks at pictures through gates, and learns from examples in its prompt.

Alayrac et al. 2022, "Flamingo: a Visual Language Model for Few-Shot Learning", arXiv 2204.14198. A perceiver resampler
makes a fixed number of vectors of a picture (section 3.1.1); between the blocks of a language model that is never
trained stand blocks of gated cross-attention (3.1.2), so that with their gates at 0 it is the language model exactly;
a word looks at the last picture before it only (3.1.3), and is told of earlier ones by the language model itself. All
that is trained is the resampler and these blocks, on documents in which pictures and texts take turns.

Departures: the tower is any of `transformers` (the paper's is an NFNet-F6 trained by contrast); the place of a picture
is held by the tokenizer's padding token, not by a token of its own, so that nothing in the language model is new; there
are no clips, so the resampler has no embedding of time; its MLPs have GELU.

B pictures, S features of a picture, C their width, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diptych.adapters.language import LanguageAdapterConfig
from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED
from diptych.core.sample import Sample
from diptych.data.batches.conversation_reader import ConversationTokens
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.words.tokenizer import pad_tokens
from diptych.decoding.decoder import Decoder
from diptych.layers.connectors import Connector, ConnectorConfig
from diptych.layers.gated_cross_attention import GatedCrossConfig
from diptych.models.pretrained_backbone._crossed import Crossed, CrossedDecoder
from diptych.models.pretrained_backbone._interleaved import InterleavedPredictor, plain_template
from diptych.models.pretrained_backbone._language_model import LanguageModel, Said
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefix_model import BridgeConfig, PrefixTask
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._tiny_parts import tiny_parts

VERBS = ("generate_text", "text_likelihood", "prompt_likelihood", "answer")


@dataclass(frozen=True)
class Config(BridgeConfig):
    """Sizes; the defaults are those of Flamingo-3B.

    Attributes:
        resampler: how many vectors a picture becomes, of the tower's own width.
        cross: the blocks between those of the language model.
        adapter: none: the language model is never trained.
    """

    resampler: ConnectorConfig = field(default_factory=lambda: ConnectorConfig("resampler", 1, 64, depth=6, heads=8))
    cross: GatedCrossConfig = field(default_factory=GatedCrossConfig)
    layer: int = -1
    special: int = 1
    adapter: LanguageAdapterConfig = field(default_factory=LanguageAdapterConfig)

    def __post_init__(self) -> None:
        if self.adapter.method != "none":
            raise ConfigError(f"adapter.method {self.adapter.method}: of Flamingo's language model nothing is trained")

    def tokens(self, features: int) -> int:
        """One, which holds the place."""
        return 1

    def bridge(self, features: int, channels: int, width: int) -> Connector:
        return self.resampler.build(features, channels, channels)


class FlamingoPredictor(InterleavedPredictor[Config]):
    """Goes on after pictures and texts."""

    VERBS = VERBS
    CONFIG = Config
    module: Crossed

    @classmethod
    def build(
        cls, config: BridgeConfig, processor: ConversationProcessor, tower: PatchFeatures, language: LanguageModel
    ) -> Crossed:
        """The module with a fresh resampler, and closed gates.

        Raises:
            ConfigError: something does not fit, or the language model is no causal one.
        """
        assert isinstance(config, Config), "Flamingo's own"
        plain = super().build(config, processor, tower, language)
        _, channels = tower.shape(processor.config.image.size)
        return Crossed(plain.tower, plain.connector, language, config.cross, channels)

    def said(self, read: Sequence[ConversationTokens], pictures: Sequence[Any]) -> Said:
        tokens_NT, lengths_N = pad_tokens([one.tokens for one in read], self.processor.tokenizer.pad_id)
        labels_NT, _ = pad_tokens([one.labels for one in read], IGNORED)
        places_NT, _ = pad_tokens([[int(place) for place in one.places] for one in read], 0)
        tokens_NT, labels_NT, lengths_N = (one.to(self.device) for one in (tokens_NT, labels_NT, lengths_N))
        language = self.module.language
        with self.module.looking(self.module.sight(self._shown(read, pictures), places_NT.bool().to(self.device))):
            return language.said(language.embed(tokens_NT), lengths_N, labels_NT)

    def decoder(self, read: Sequence[ConversationTokens], pictures: Sequence[Any], room: int) -> Decoder:
        longest = max(len(one.tokens) for one in read)
        places = [[False] * (longest - len(one.places)) + one.places for one in read]
        rows = [self.module.language.embed(torch.tensor([one.tokens], device=self.device))[0] for one in read]
        sight = self.module.sight(self._shown(read, pictures), torch.tensor(places, device=self.device))
        return CrossedDecoder(self.module, rows, room, sight)

    def _shown(self, read: Sequence[ConversationTokens], pictures: Sequence[Any]) -> Tensor | None:
        return self.seen(read, pictures) if pictures else None


class FlamingoTask(PrefixTask[Config]):
    """Next-token loss of what is said, for the resampler and the gated blocks."""

    PREDICTOR = FlamingoPredictor
    NAME = "flamingo"
    model: Crossed


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, FlamingoTask]:
    """Random parts at their smallest, gates open so that pictures are seen; a tokenizer fitted to the samples."""
    resampler = ConnectorConfig("resampler", queries=4, depth=1, heads=2)
    config = Config(resampler, GatedCrossConfig(heads=2, head_width=16, hidden=2))
    task = FlamingoTask(config, *tiny_parts(samples, 1, plain_template("<end>"), pictures=4), Trained())
    for crossing in task.model.gated_blocks():
        nn.init.constant_(crossing.attention_gate, 1.0)
        nn.init.constant_(crossing.mlp_gate, 0.5)
    return {"flamingo": task}
