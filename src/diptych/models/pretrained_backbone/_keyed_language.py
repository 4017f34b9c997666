"""A causal language model that goes on from keys and values which are learned: prefix tuning.

B batch, T tokens, P learned places, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.adapters.prefix import LearnedKeys
from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED
from diptych.decoding.decoder import Decoder
from diptych.decoding.grouped_by_length import GroupedByLength
from diptych.models.pretrained_backbone._language_model import KeyedModel, LanguageModel, Said


class KeyedLanguage(LanguageModel):
    """Reads as if something had been read before.

    Raises:
        ConfigError: there is no room for anything else.
        MissingExtra: peft is not installed.
    """

    def __init__(self, language: KeyedModel, tokens: int) -> None:
        super().__init__()
        if tokens >= language.context:
            raise ConfigError(f"adapter.tokens {tokens} leave no room in rows of {language.context}")
        self.language = language
        self.known = LearnedKeys(language.key_sizes, tokens)

    @property
    def width(self) -> int:
        return self.language.width

    @property
    def vocabulary(self) -> int:
        return self.language.vocabulary

    @property
    def context(self) -> int:
        return self.language.context - self.known.tokens

    def embed(self, tokens_BT: Tensor) -> Tensor:
        return self.language.embed(tokens_BT)

    def said(self, x_BTD: Tensor, lengths_B: Tensor, labels_BT: Tensor) -> Said:
        states_BTD = self.language.read_after(x_BTD, lengths_B, self.known())
        return Said(states_BTD, F.pad(labels_BT[:, 1:], (0, 1), value=IGNORED))

    def logits(self, states: Tensor) -> Tensor:
        return self.language.logits(states)

    def decoder(self, rows: Sequence[Tensor], room: int) -> Decoder:
        known, whole = self.known(), room + self.known.tokens

        def make(places: list[int]) -> Decoder:
            return self.language.decoder_after(torch.stack([rows[place] for place in places]), whole, known)

        return GroupedByLength([len(row) for row in rows], make)

    def write_config(self, folder: Path) -> None:
        """Of the model inside."""
        self.language.write_config(folder)
