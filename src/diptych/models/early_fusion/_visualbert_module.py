"""VisualBERT's module: one BERT over words and regions, and its two heads.

B batch, T tokens, R regions, A words that a region is aligned with, M positions, N predicted positions, D width,
F region width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.config import ModelConfig
from diptych.core.errors import ConfigError, DataError
from diptych.core.losses import IGNORED
from diptych.data.batches.region_batch import Pictures
from diptych.layers.bert import INITIAL_STD, BertConfig, BertEncoder, MaskedWordHead, initialise
from diptych.layers.feature_map import BackboneMapConfig, ConvMapConfig
from diptych.models.early_fusion._region_encoder import RegionEncoder

NO_ALIGNMENT = -1
"""In an alignment: no (further) word."""
_WORDS, _REGIONS = 0, 1
"""Types of segments."""


class Seen(NamedTuple):
    """What is seen of pictures.

    Attributes:
        features_BRF: of the regions.
        counts_B: int64, how many regions count.
        boxes_BR4: normalised corners, where they are known.
        alignment_BRA: int64, places of the words that a region belongs to, where that is known; `NO_ALIGNMENT` fills.
    """

    features_BRF: Tensor
    counts_B: Tensor
    boxes_BR4: Tensor | None = None
    alignment_BRA: Tensor | None = None


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes and switches; the defaults are those of the paper.

    Attributes:
        text: of the one BERT.
        region_width: F, of the region features.
        features: what region features are made from; None for a model that is given them, made by a detector.
        bins: S, bins along a side of a region that is pooled.
        box_geometry: whether a region's embedding has a linear map of its centre, size and area added (as in LXMERT and
            UNITER); public weights have none.
    """

    text: BertConfig = field(default_factory=BertConfig)
    region_width: int = 2048
    features: ConvMapConfig | BackboneMapConfig | None = None
    bins: int = 2
    box_geometry: bool = False

    def __post_init__(self) -> None:
        if self.region_width < 1 or self.bins < 1:
            raise ConfigError(f"region_width {self.region_width} and bins {self.bins} must be at least 1")

    @classmethod
    def base(cls) -> Config:
        """The paper's: BERT-base, and a detector's features of 2048 numbers: 112 M parameters."""
        return cls()

    @classmethod
    def tiny(cls, vocab_size: int = 512) -> Config:
        """Trains on a CPU in a few minutes, together with what makes its region features."""
        text = BertConfig(vocab_size, context=64, width=96, depth=2, heads=3, hidden=384)
        return cls(text, region_width=128, features=ConvMapConfig(64, halvings=3), box_geometry=True)

    def with_vocabulary(self, size: int) -> Config:
        """The same sizes for another tokenizer."""
        return replace(self, text=replace(self.text, vocab_size=size))


class Embeddings(nn.Module):
    """Words, and regions beside them, under one norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        text = config.text
        self.words = nn.Embedding(text.vocab_size, text.width)
        self.positions = nn.Embedding(text.context, text.width)
        self.types = nn.Embedding(text.types, text.width)
        self.region_types = nn.Embedding(text.types, text.width)
        self.region_positions = nn.Embedding(text.context, text.width)
        self.projection = nn.Linear(config.region_width, text.width)
        self.geometry = nn.Linear(5, text.width, bias=False) if config.box_geometry else None
        self.norm = nn.LayerNorm(text.width, eps=text.eps)
        initialise(self)
        if self.geometry is not None:  # of few inputs, and not to drown what is in the region
            nn.init.normal_(self.geometry.weight, std=INITIAL_STD)
        with torch.no_grad():  # regions begin as the words' segments and positions do, as in the released code
            self.region_types.weight.copy_(self.types.weight)
            self.region_positions.weight.copy_(self.positions.weight)

    def forward(self, tokens_BT: Tensor, seen: Seen, types_BT: Tensor | None = None) -> Tensor:
        """[B, T + R, D]: words first.

        Raises:
            DataError: a text longer than the positions that are learned.
        """
        longest = tokens_BT.shape[1]
        if longest > self.positions.num_embeddings:
            raise DataError(f"a text of {longest} tokens is longer than the context of {self.positions.num_embeddings}")
        types = self.types.weight[_WORDS] if types_BT is None else self.types(types_BT)
        words_BTD = self.words(tokens_BT) + self.positions.weight[:longest] + types
        out: Tensor = self.norm(torch.cat([words_BTD, self._regions(seen)], dim=1))
        return out

    def _regions(self, seen: Seen) -> Tensor:
        x_BRD: Tensor = self.projection(seen.features_BRF)
        x_BRD = x_BRD + self.region_types.weight[_REGIONS] + self.region_positions.weight[0]
        if seen.alignment_BRA is not None:
            x_BRD = x_BRD + self._aligned(seen.alignment_BRA)
        if self.geometry is not None:
            if seen.boxes_BR4 is None:
                raise DataError(
                    "this model embeds where a region lies (box_geometry), so it takes pictures, and no features alone"
                )
            x_BRD = x_BRD + self.geometry(box_geometry(seen.boxes_BR4).to(x_BRD.dtype))
        return x_BRD

    def _aligned(self, alignment_BRA: Tensor) -> Tensor:
        """The mean position of the words that a region belongs to; nothing where there are none."""
        known_BRA = alignment_BRA != NO_ALIGNMENT
        of_words_BRAD: Tensor = self.positions(alignment_BRA.clamp(min=0)) * known_BRA[..., None]
        return of_words_BRAD.sum(2) / known_BRA.sum(2).clamp(min=1)[..., None]


def box_geometry(boxes_BR4: Tensor) -> Tensor:
    """Centre x and y, width, height and area of normalised boxes: [B, R, 5]."""
    low_BR2, high_BR2 = boxes_BR4[..., :2], boxes_BR4[..., 2:]
    sides_BR2 = high_BR2 - low_BR2
    return torch.cat([(low_BR2 + high_BR2) / 2, sides_BR2, sides_BR2.prod(-1, keepdim=True)], dim=-1)


class VisualBert(nn.Module):
    """Embeddings, encoder, pooler and heads; before them, where the model makes its own region features, these."""

    def __init__(
        self, config: Config, mean: Sequence[float], std: Sequence[float], backbone: nn.Module | None = None
    ) -> None:
        super().__init__()
        width = config.text.width
        self.config = config
        self.regions = (
            None
            if config.features is None
            else RegionEncoder(config.features, config.bins, config.region_width, mean, std, backbone)
        )
        self.embeddings = Embeddings(config)
        self.encoder = BertEncoder(config.text)
        self.pooler = nn.Linear(width, width)
        self.word_head = MaskedWordHead(config.text)
        self.match_head = nn.Linear(width, 2)
        initialise(self.pooler)
        nn.init.normal_(self.match_head.weight, std=INITIAL_STD)  # undecided
        nn.init.zeros_(self.match_head.bias)

    def look(self, pictures: Pictures) -> Seen:
        """The region features of pictures.

        Raises:
            DataError: the model was trained on a detector's features, and has none of its own.
        """
        if self.regions is None:
            raise DataError(
                f"this model has no region extractor: give region features, a float tensor [N, regions, "
                f"{self.config.region_width}] of the detector that it was trained with, instead of pictures"
            )
        return Seen(self.regions(pictures.pixels_NCHW, pictures.boxes_NR4), pictures.counts_N, pictures.boxes_NR4)

    def forward(
        self, tokens_BT: Tensor, lengths_B: Tensor, seen: Seen, places_BM: Tensor | None = None,
        types_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The last hidden states [B, T + R, D], or those at some places [B, M, D].

        Args:
            lengths_B: tokens that are not padding.
            types_BT: segments of the words; 0 by default.
        """
        inside_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device) < lengths_B[:, None]
        shown_BR = torch.arange(seen.features_BRF.shape[1], device=tokens_BT.device) < seen.counts_B[:, None]
        mask_B1S = torch.cat([inside_BT, shown_BR], dim=1)[:, None]
        out: Tensor = self.encoder(self.embeddings(tokens_BT, seen, types_BT), mask_B1S, places_BM)
        return out

    def word_logits(self, rows_ND: Tensor) -> Tensor:
        """[N, V] of hidden states [N, D]; any number of axes before the last."""
        out: Tensor = self.word_head(rows_ND, self.embeddings.words.weight)
        return out

    def match_logits(self, first_BD: Tensor) -> Tensor:
        """[B, 2] of the hidden state of [CLS]: "the caption is the picture's", and that it is not."""
        out: Tensor = self.match_head(F.tanh(self.pooler(first_BD)))
        return out


def asked_places(labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Where something is to be predicted [B, M], M of the row that has most, and what; `IGNORED` fills the others."""
    asked_BT = labels_BT != IGNORED
    most = int(asked_BT.sum(1).max()) if len(labels_BT) else 0
    places_BM = (~asked_BT).to(torch.int8).argsort(dim=1, stable=True)[:, :most]
    return places_BM, labels_BT.gather(1, places_BM)
