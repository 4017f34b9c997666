"""BLIP-2's first stage as a module: tower, Q-Former and the heads of its three objectives.

B pairs, S features of a picture, C their width, Q queries, T tokens, D width, E joint width, R rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.layers.bert import BertConfig, MaskedWordHead
from diptych.layers.qformer import QFormer, QFormerConfig
from diptych.models.generative._prompts import start_of
from diptych.models.pretrained_backbone._patch_features import PatchFeatures

TEMPERATURE = 0.07
"""At first; it is learned as it is, a divisor."""


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes; the defaults are BLIP-2's on a ViT-g.

    Attributes:
        qformer: its vocabulary has one token more than the tokenizer: it begins what is written.
        joint: E.
        layer, special: of the tower: which states, and how many tokens before the patches are left out.
        smoothing: of the contrast's labels.
    """

    qformer: QFormerConfig = field(default_factory=QFormerConfig)
    joint: int = 256
    layer: int = -2
    special: int = 0
    smoothing: float = 0.1

    def with_vocabulary(self, size: int) -> Self:
        """The same sizes for another tokenizer."""
        return replace(self, qformer=replace(self.qformer, vocabulary=size + 1))


class Blip2(nn.Module):
    """Tower, Q-Former, two maps into the joint space, and heads for matching and for words."""

    def __init__(self, config: Config, tower: PatchFeatures) -> None:
        super().__init__()
        sizes = config.qformer
        self.config, self.tower, self.qformer = config, tower, QFormer(sizes)
        self.norm = nn.LayerNorm(sizes.image_width)
        self.image_head = nn.Linear(sizes.width, config.joint)
        self.text_head = nn.Linear(sizes.width, config.joint)
        self.match_head = nn.Linear(sizes.width, 2)
        self.word_head = MaskedWordHead(BertConfig(sizes.vocabulary, sizes.context, sizes.width, eps=sizes.eps))
        self.temperature = nn.Parameter(torch.tensor(TEMPERATURE))

    @property
    def begin(self) -> int:
        """The token that begins what is written."""
        return self.config.qformer.vocabulary - 1

    def see(self, pixels_BCHW: Tensor) -> Tensor:
        """Features [B, S, C] of pictures."""
        out: Tensor = self.norm(self.tower(pixels_BCHW))
        return out

    def image_vectors(self, image_BSC: Tensor) -> Tensor:
        """Unit vectors [B, Q, E]."""
        return F.normalize(self.image_head(self.qformer.see(image_BSC)), dim=-1)

    def text_vectors(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Unit vectors [B, E], of the first token."""
        return F.normalize(self.text_head(self.qformer.read(tokens_BT, lengths_B)[:, 0]), dim=-1)

    def matching(self, image_RSC: Tensor, tokens_RT: Tensor, lengths_R: Tensor) -> Tensor:
        """Logits [R, 2] of "they do not match" and "they do": the mean over the queries."""
        out: Tensor = self.match_head(self.qformer.match(image_RSC, tokens_RT, lengths_R)).mean(1)
        return out

    def written(self, image_BSC: Tensor, tokens_BT: Tensor) -> Tensor:
        """States [B, T, D] of a text that is written, its first token replaced by what begins it."""
        begun_BT = torch.cat([torch.full_like(tokens_BT[:, :1], self.begin), tokens_BT[:, 1:]], dim=1)
        return self.qformer.write(image_BSC, begun_BT)

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        assert self.qformer.words is not None, "the first stage reads text"
        out: Tensor = self.word_head(states, self.qformer.words.weight)
        return out


def check_fit(config: Config, processor: ImageTextProcessor, tower: PatchFeatures) -> None:
    """Raises a ConfigError where words, texts or the tower do not fit the sizes."""
    sizes, text = config.qformer, processor.config.text
    start_of(processor.tokenizer)
    if processor.tokenizer.vocab_size + 1 > sizes.vocabulary:
        raise ConfigError(
            f"the tokenizer has {processor.tokenizer.vocab_size} tokens, and a Q-Former of {sizes.vocabulary} takes "
            f"one fewer: one begins what is written"
        )
    if text.max_length > sizes.context:
        raise ConfigError(f"texts of up to {text.max_length} tokens do not fit the {sizes.context} positions")
    _, channels = tower.shape(processor.config.image.size)
    if channels != sizes.image_width:
        raise ConfigError(f"the tower's features are {channels} wide, and qformer.image_width is {sizes.image_width}")
