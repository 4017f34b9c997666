"""A memory of documents and the contrastive model that finds those which stand before another one.

The memory is part of the model: it is saved and loaded with the weights. A document's vector is the mean of those of
its texts and its pictures (CM3Leon, arXiv 2309.02591, section 2.1); so is a query's, of what there is of it.

B batch, N documents, T tokens, D width of the vectors, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.core.seeding import hash_to_int
from diptych.data.neighbours import NOTHING, NeighbourRules, neighbours
from diptych.data.words.tokenizer import pad_tokens
from diptych.models.contrastive import clip


@dataclass(frozen=True)
class RetrievalConfig:
    """What is remembered, and what stands before a document.

    Attributes:
        documents: N; 0 for no memory, and nothing found.
        retriever: sizes of the contrastive model, of the same pictures and words as the model's.
        rules: of choosing.
    """

    documents: int = 10_000
    retriever: clip.Config = field(default_factory=clip.Config)
    rules: NeighbourRules = field(default_factory=NeighbourRules)

    def __post_init__(self) -> None:
        if self.documents < 0:
            raise ConfigError(f"retrieval.documents {self.documents} must be 0, for no memory, or more")

    def with_vocabulary(self, size: int) -> Self:
        """The same sizes for another tokenizer."""
        return replace(self, retriever=self.retriever.with_vocabulary(size))


class Memory(nn.Module):
    """Documents as rows of tokens, with their vectors.

    Args:
        longest: T, of a document.
    """

    vectors_ND: Tensor
    tokens_NT: Tensor
    lengths_N: Tensor
    keys_N: Tensor

    def __init__(self, config: RetrievalConfig, longest: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.rules, count = config.rules, config.documents
        self.retriever = clip.Clip(config.retriever, mean, std).requires_grad_(requires_grad=False).eval()
        self.register_buffer("vectors_ND", torch.zeros(count, config.retriever.width))
        self.register_buffer("tokens_NT", torch.zeros(count, longest, dtype=torch.int64))
        self.register_buffer("lengths_N", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("keys_N", torch.zeros(count, dtype=torch.int64))

    @property
    def room(self) -> int:
        """N."""
        return len(self.keys_N)

    def remember(self, at: int, keys: Sequence[str], vectors_BD: Tensor, rows: Sequence[list[int]]) -> int:
        """Puts documents into the places from `at` on, as far as there is room; the place after the last of them."""
        tokens_BT, lengths_B = pad_tokens(rows, 0)
        end = min(at + len(rows), self.room)
        count = end - at
        self.vectors_ND[at:end] = vectors_BD[:count]
        self.tokens_NT[at:end] = 0
        self.tokens_NT[at:end, : tokens_BT.shape[1]] = tokens_BT[:count]
        self.lengths_N[at:end] = lengths_B[:count]
        self.keys_N[at:end] = torch.tensor([hash_to_int("document", key) for key in keys[:count]])
        return end

    @torch.no_grad()
    def of_pictures(self, pixels_BCHW: Tensor) -> Tensor:
        """Unit vectors [B, D] of uint8 or prepared pictures."""
        with torch.autocast(pixels_BCHW.device.type, enabled=False):
            return self.retriever.encode_image(pixels_BCHW)

    @torch.no_grad()
    def of_texts(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Unit vectors [B, D]."""
        with torch.autocast(tokens_BT.device.type, enabled=False):
            return self.retriever.encode_text(tokens_BT, lengths_B)

    @torch.no_grad()
    def before(self, queries_BD: Tensor, keys: Sequence[str] = (), counts: Sequence[int] = ()) -> list[list[int]]:
        """The tokens of the documents that stand before each query, the closest last; none before one of zeros.

        Args:
            keys: of the queries, which are not found themselves; none for queries from elsewhere.
            counts: the most documents of each query; none for as many as there may be.
        """
        allowed_BN = (self.lengths_N > 0) & queries_BD.any(1, keepdim=True)
        if keys:
            own_B = torch.tensor([hash_to_int("document", key) for key in keys], device=self.keys_N.device)
            allowed_BN = allowed_BN & (self.keys_N != own_B[:, None])
        places = neighbours(queries_BD, self.vectors_ND, allowed_BN, self.rules).tolist()
        most = counts or [self.rules.most] * len(places)
        return [self._tokens(row[:count]) for row, count in zip(places, most, strict=True)]

    def _tokens(self, places: Sequence[int]) -> list[int]:
        found: list[int] = []
        for place in reversed([place for place in places if place != NOTHING]):
            found += self.tokens_NT[place, : int(self.lengths_N[place])].tolist()
        return found
