"""MiniGPT-4: one linear map between a frozen vision tower with its frozen Q-Former and a frozen language model.

Zhu et al. 2023, "MiniGPT-4", arXiv 2304.10592. Tower and Q-Former are BLIP-2's (its first stage, blip2.py); nothing but
the map from the queries' outputs into the language model's space is trained, in two rounds: many captioned pictures,
then few conversations that are well said, each as "###Human: <Img>...</Img> what is asked ###Assistant: the answer".
Without a Q-Former the map stands on the tower's features themselves.

B pictures, S features of a picture, C their width, Q vectors, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from diptych.adapters.language import LanguageAdapterConfig
from diptych.core.sample import Sample
from diptych.data.words.chat import IMAGE, PlainTemplate
from diptych.layers.connectors import Connector, ConnectorConfig
from diptych.layers.qformer import QFormerConfig
from diptych.models.pretrained_backbone._prefix_model import BridgeConfig, PrefixPredictor, PrefixTask
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._qformer_bridge import QFormerBridge, require_width
from diptych.models.pretrained_backbone._tiny_parts import tiny_parts

VERBS = ("generate_text", "text_likelihood", "answer")
READS = ()

_LINEAR = ConnectorConfig("linear")


@dataclass(frozen=True)
class Config(BridgeConfig):
    """Sizes; the defaults are the paper's, on BLIP-2's ViT-g.

    Attributes:
        qformer: without a vocabulary; None for a map of every feature.
        normed: whether the features are normalised before the Q-Former, by the norm that BLIP-2's first stage learned.
    """

    qformer: QFormerConfig | None = field(default_factory=lambda: QFormerConfig(vocabulary=0))
    layer: int = -2
    special: int = 0
    normed: bool = True
    adapter: LanguageAdapterConfig = field(default_factory=LanguageAdapterConfig)

    def tokens(self, features: int) -> int:
        return _LINEAR.tokens(features) if self.qformer is None else self.qformer.queries

    def bridge(self, features: int, channels: int, width: int) -> Connector:
        if self.qformer is None:
            return _LINEAR.build(features, channels, width)
        require_width(self.qformer, channels)
        return MappedQueries(self.qformer, width, self.normed)


class MappedQueries(QFormerBridge):
    """A Q-Former that stays as it is, and a linear map that is trained."""

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Of the map; norm and Q-Former have none."""
        super().requires_grad_(False)
        self.map.requires_grad_(requires_grad)
        return self


def template(end: str) -> PlainTemplate:
    """ "###Human: <Img>...</Img> what is this? ###Assistant: a cat", and the text of the tokenizer's end token."""
    return PlainTemplate("", "###Human: ", "###Assistant:", " ", end, f"<Img>{IMAGE}</Img> ")


class MiniGpt4Predictor(PrefixPredictor[Config]):
    """Talks about a picture."""

    VERBS = VERBS
    CONFIG = Config


class MiniGpt4Task(PrefixTask[Config]):
    """Both rounds; `model.connector.take_first_stage` brings what BLIP-2's first stage has learned."""

    PREDICTOR = MiniGpt4Predictor
    NAME = "minigpt4"


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, MiniGpt4Task]:
    """On queries and on plain features at its smallest; of the random parts the language model is trained too."""
    queries = Config(QFormerConfig(4, 64, 2, 2, 128, 32, 2, vocabulary=0), layer=-1, special=1)
    features = Config(None, layer=-1, special=1)
    return {
        "queries": MiniGpt4Task(queries, *tiny_parts(samples, 4, template("<end>")), Trained(language=True)),
        "features": MiniGpt4Task(features, *tiny_parts(samples, 16, template("<end>")), Trained(language=True)),
    }
