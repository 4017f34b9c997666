"""Frozen: a vision encoder learns to speak to a language model that never changes.

Tsimpoukelli et al. 2021, "Multimodal Few-Shot Learning with Frozen Language Models", arXiv 2106.13884. The encoder's
pooled output is mapped to k vectors of the language model's width, a prefix that stands for the picture. Encoder and
map are trained on captions by gradients that go through the language model, of which no weight moves. A prefix stands
anywhere among words, so that a prompt of pictures and texts in any order gives examples and then asks. Texts stand
between pictures without names of speakers.

Departures: the encoder is any of `transformers` (the paper's is an NF-ResNet-50), its pooled output the mean of its
last features; positions are rotary where the language model is a Llama, as relative as the paper's.

B conversations, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diptych.core.sample import Sample
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone._interleaved import InterleavedPredictor, plain_template
from diptych.models.pretrained_backbone._prefix_model import PrefixConfig, PrefixTask
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._tiny_parts import tiny_parts

VERBS = ("generate_text", "text_likelihood", "prompt_likelihood", "answer")
TRAINED = Trained(tower=True, connector=True, language=False)
"""What makes it Frozen."""


@dataclass(frozen=True)
class Config(PrefixConfig):
    """The paper's prefix of two vectors."""

    connector: ConnectorConfig = field(default_factory=lambda: ConnectorConfig("pooled", queries=2))


class FrozenPredictor(InterleavedPredictor[Config]):
    """Goes on after pictures and texts."""

    VERBS = VERBS
    CONFIG = Config


class FrozenTask(PrefixTask[Config]):
    """Next-token loss of captions, for encoder and map."""

    PREDICTOR = FrozenPredictor
    NAME = "frozen"


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, FrozenTask]:
    """Random parts at their smallest; a tokenizer fitted to the samples."""
    config = Config(ConnectorConfig("pooled", queries=4))
    return {"frozen": FrozenTask(config, *tiny_parts(samples, 4, plain_template("<end>"), pictures=4), TRAINED)}
