"""A pretrained language model as part of a larger one: it reads vectors, words or not, and says what comes next.

Two kinds: Llama's architecture on our own trunk (_llama.py), and any other causal language model of `transformers` as
it is (_transformers_lm.py). `read_language` (_language_folder.py) chooses.

B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from diptych.decoding.decoder import Decoder


class LanguageModel(nn.Module, ABC):
    """Causal: nothing depends on what comes after it."""

    @property
    @abstractmethod
    def width(self) -> int:
        """D."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """V."""

    @property
    @abstractmethod
    def context(self) -> int:
        """The longest row that positions are known for."""

    @abstractmethod
    def embed(self, tokens_BT: Tensor) -> Tensor:
        """The vectors [B, T, D] of words."""

    @abstractmethod
    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """States [B, T, D].

        Args:
            lengths_B: what is at and after a row's length is padding.
        """

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""

    @abstractmethod
    def decoder(self, rows: Sequence[Tensor], room: int) -> Decoder:
        """A decoder that has read prompts of vectors [T, D], each of its own length.

        Args:
            room: the longest row, prompt included.

        Raises:
            TextTooLong: a prompt leaves no room for one more token.
        """

    @abstractmethod
    def write_config(self, folder: Path) -> None:
        """Writes a `config.json` from which `language_from_config` builds the same model without its weights."""
