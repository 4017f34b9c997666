"""A batch of conversations about pictures.

B conversations, T tokens, N pictures of all of them, C channels, H height, W width, S features of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor

from diptych.data.batches.row_batch import RowBatch


@dataclass(frozen=True)
class ConversationBatch(RowBatch):
    """Conversations, padded at the right.

    Attributes:
        tokens_BT: int64; anything at pictures.
        labels_BT: int64, IGNORED where nothing is learned; of the token itself, not of the next one.
        places_BT: bool, True at pictures' tokens: those of each picture follow one another.
        lengths_B: int64.
        pixels_NCHW: uint8 in channels-last strides, the first conversation's pictures first.
        counts: pictures of each conversation.
        seeds: one 63-bit integer a sample.
        features_NSC: in the place of pixels, cached features of the tower; None where it is to see the pictures.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    places_BT: Tensor
    lengths_B: Tensor
    pixels_NCHW: Tensor
    counts: tuple[int, ...]
    seeds: tuple[int, ...]
    features_NSC: Tensor | None = field(default=None, kw_only=True)

    def part(self, begin: int, end: int) -> Self:
        """The conversations from `begin` to before `end`, with their pictures."""
        pictures = slice(sum(self.counts[:begin]), sum(self.counts[:end]))
        features = None if self.features_NSC is None else self.features_NSC[pictures]
        return replace(super().part(begin, end), pixels_NCHW=self.pixels_NCHW[pictures], features_NSC=features)
