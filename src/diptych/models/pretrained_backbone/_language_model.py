"""A pretrained language model as part of a larger one: it reads vectors, words or not, and says what follows.

Llama's architecture runs on our own trunk (_llama.py), any other causal language model of `transformers` as it is
(_transformers_lm.py), and so does any encoder-decoder (_encoder_decoder.py): _language_folder.py chooses.

B batch, T tokens, A places at which something is said, D width, V vocabulary, G key heads, P known places, K width of
a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.adapters.prefix import KeySizes
from diptych.core.losses import IGNORED
from diptych.decoding.decoder import Decoder

Known = Sequence[tuple[Tensor, Tensor]]
"""Keys and values [G, P, K] of every layer."""


class Said(NamedTuple):
    """Where answers are said.

    Attributes:
        states_BAD: what `logits` reads.
        labels_BA: the token that each is to say, IGNORED where none is learned.
    """

    states_BAD: Tensor
    labels_BA: Tensor


class LanguageModel(nn.Module, ABC):
    """Reads rows of vectors, and says answers."""

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
    def said(self, x_BTD: Tensor, lengths_B: Tensor, labels_BT: Tensor) -> Said:
        """Each token of the answers, from what stands before it.

        Args:
            lengths_B: what is at and after a row's length is padding.
            labels_BT: the token itself where it is of an answer, IGNORED elsewhere.
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


class Words(Protocol):
    """What reads and writes tokens."""

    def embed(self, tokens_BT: Tensor) -> Tensor:
        """The vectors [B, T, D] of tokens."""
        ...

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        ...


class CausalModel(LanguageModel):
    """Nothing depends on what comes after it."""

    @abstractmethod
    def decoder(self, rows: Sequence[Tensor], room: int, words: Words | None = None) -> Decoder:
        """As of any.

        Args:
            words: of another vocabulary, in the place of the model's own.
        """

    @property
    @abstractmethod
    def inner_width(self) -> int:
        """Of what its blocks hand on: D, but for models whose words are narrower (OPT-350M)."""

    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """Its blocks in order, each of which takes the states [B, T, inner width] first.

        Raises:
            ConfigError: they cannot be told.
        """

    @abstractmethod
    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """States [B, T, D]."""

    def said(self, x_BTD: Tensor, lengths_B: Tensor, labels_BT: Tensor) -> Said:
        return Said(self(x_BTD, lengths_B), F.pad(labels_BT[:, 1:], (0, 1), value=IGNORED))


class PackingModel(CausalModel):
    """Reads several conversations in a row, each as if it were alone."""

    @abstractmethod
    def said_packed(self, x_BTD: Tensor, lengths_B: Tensor, labels_BT: Tensor, room: int) -> Said:
        """As `said`, with other rows (layers/packing.py) of at most `room` tokens.

        Raises:
            ConfigError: a conversation is longer than that.
        """


class KeyedModel(LanguageModel):
    """Goes on from keys and values that nothing was read for (adapters/prefix.py): of every layer, [G, P, K] each.

    What is read stands at the places that follow theirs.
    """

    @property
    @abstractmethod
    def key_sizes(self) -> KeySizes:
        """Of its keys and values."""

    @abstractmethod
    def read_after(self, x_BTD: Tensor, lengths_B: Tensor, known: Known) -> Tensor:
        """States [B, T, D] of rows, padded at the right."""

    @abstractmethod
    def decoder_after(self, x_NTD: Tensor, room: int, known: Known) -> Decoder:
        """A decoder that has read prompts of one length.

        Args:
            room: the longest row, prompt and known places included.

        Raises:
            TextTooLong: there is no room for one more token.
        """
