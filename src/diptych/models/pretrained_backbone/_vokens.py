"""Generative vokens: tokens beside a language model's own vocabulary, a picture being one of each in order.

Zheng et al. 2023, "MiniGPT-5", arXiv 2310.02239, section 3.1. Their rows of the embedding and of the head are all that
is trained of the vocabulary, so they are held apart from the language model, of which nothing moves. Both begin as the
mean of the words' rows, as in the released code.

B batch, T tokens, K vokens, D width, V words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.decoding.decoder import Decoder
from diptych.models.pretrained_backbone._language_model import CausalModel, Words


class VokenLanguage(CausalModel):
    """A language model that also reads and says vokens: ids from V on."""

    def __init__(self, language: CausalModel, count: int) -> None:
        super().__init__()
        self.language = language
        self.first, self.count = language.vocabulary, count
        read_D, said_D = _means(language)
        self.embedding_KD = nn.Parameter(read_D.repeat(count, 1))
        self.head_KD = nn.Parameter(said_D.repeat(count, 1))

    @property
    def width(self) -> int:
        return self.language.width

    @property
    def vocabulary(self) -> int:
        return self.first + self.count

    @property
    def context(self) -> int:
        return self.language.context

    @property
    def inner_width(self) -> int:
        return self.language.inner_width

    def blocks(self) -> Sequence[nn.Module]:
        return self.language.blocks()

    def ids(self) -> list[int]:
        """Of a picture's vokens, in order."""
        return list(range(self.first, self.first + self.count))

    def embed(self, tokens_BT: Tensor) -> Tensor:
        own_BT = tokens_BT >= self.first
        words_BTD = self.language.embed(tokens_BT.masked_fill(own_BT, 0))
        vokens_BTD = F.embedding((tokens_BT - self.first).clamp(min=0), self.embedding_KD)
        return torch.where(own_BT[..., None], vokens_BTD.to(words_BTD.dtype), words_BTD)

    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        states_BTD: Tensor = self.language(x_BTD, lengths_B)
        return states_BTD

    def logits(self, states: Tensor) -> Tensor:
        return torch.cat([self.language.logits(states), F.linear(states, self.head_KD)], dim=-1)

    def decoder(self, rows: Sequence[Tensor], room: int, words: Words | None = None) -> Decoder:
        """Of words alone, unless `words` says otherwise."""
        return self.language.decoder(rows, room, words)

    def write_config(self, folder: Path) -> None:
        self.language.write_config(folder)


@torch.no_grad()
def _means(language: CausalModel) -> tuple[Tensor, Tensor]:
    """The means [D] of the rows by which words are read and said; the head is asked for its rows, not for its bias."""
    places = torch.arange(language.vocabulary, device=next(language.parameters()).device)
    read_VD = language.embed(places[None])[0]
    eye_DD = torch.eye(language.width, dtype=read_VD.dtype, device=read_VD.device)
    said_DV = language.logits(eye_DD) - language.logits(torch.zeros_like(eye_DD[:1]))
    return read_VD.mean(0), said_DV.mean(1)


class VokenGrammar:
    """Vokens come whole and in order: the first anywhere among words, each other one behind the one before it.

    Args:
        first, count: of the vokens' ids, the last of the vocabulary.
        rows: how many are written.
    """

    def __init__(self, first: int, count: int, rows: int) -> None:
        self._first, self._count = first, count
        self._due_N = torch.zeros(rows, dtype=torch.int64)

    def allowed(self) -> Tensor:
        """bool [N, V + K]."""
        places_V = torch.arange(self._first + self._count)
        words_V = places_V <= self._first
        due_NV = places_V == (self._first + self._due_N)[:, None]
        return torch.where((self._due_N > 0)[:, None], due_NV, words_V)

    def advance(self, tokens_N: Tensor) -> None:
        """Takes in the tokens that were chosen."""
        said_N = tokens_N.cpu() - self._first
        self._due_N = torch.where(said_N >= 0, (said_N + 1) % self._count, 0)

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._due_N = self._due_N[rows_M.cpu()]
