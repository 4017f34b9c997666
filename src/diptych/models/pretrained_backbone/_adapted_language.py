"""A language model with an adapter: inside its linear maps, or learned vectors before all that it reads.

B batch, T tokens, P learned vectors, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from diptych.adapters.language import LanguageAdapterConfig, add_adapter
from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED
from diptych.decoding.decoder import Decoder
from diptych.models.pretrained_backbone._encoder_decoder import EncoderDecoder
from diptych.models.pretrained_backbone._keyed_language import KeyedLanguage
from diptych.models.pretrained_backbone._language_model import KeyedModel, LanguageModel, Said
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm


def adapted(language: LanguageModel, config: LanguageAdapterConfig) -> tuple[LanguageModel, frozenset[str]]:
    """The model with its adapter, and the names of the adapter's parameters in it; none where there is none.

    Linear maps are changed in place.

    Raises:
        ConfigError: there is nothing to change, or no room for learned vectors.
        MissingExtra: peft is not installed.
    """
    if config.method == "none":
        return language, frozenset()
    if config.method == "prompt":
        return PromptedLanguage(language, config.tokens), frozenset({"prompt_PD"})
    if config.method == "prefix":
        if not isinstance(language, KeyedModel):
            raise ConfigError("prefix tuning stands before what a causal model reads, and this language model is none")
        keyed = KeyedLanguage(language, config.tokens)
        return keyed, frozenset(f"known.{name}" for name, _ in keyed.known.named_parameters())
    if isinstance(language, TransformersLm | EncoderDecoder):  # peft knows their maps by the configuration inside
        return language, frozenset(f"model.{name}" for name in add_adapter(language.model, config))
    return language, add_adapter(language, config)


class PromptedLanguage(LanguageModel):
    """Reads learned vectors first: prompt tuning (Lester et al. 2021, arXiv 2104.08691).

    They begin as vectors of words, drawn from the vocabulary.

    Raises:
        ConfigError: they leave no room for anything else.
    """

    def __init__(self, language: LanguageModel, tokens: int) -> None:
        super().__init__()
        if tokens >= language.context:
            raise ConfigError(f"adapter.tokens {tokens} leave no room in rows of {language.context}")
        self.language = language
        with torch.no_grad():
            self.prompt_PD = nn.Parameter(language.embed(torch.randint(language.vocabulary, (tokens,))).clone())

    @property
    def width(self) -> int:
        return self.language.width

    @property
    def vocabulary(self) -> int:
        return self.language.vocabulary

    @property
    def context(self) -> int:
        return self.language.context - len(self.prompt_PD)

    def embed(self, tokens_BT: Tensor) -> Tensor:
        return self.language.embed(tokens_BT)

    def said(self, x_BTD: Tensor, lengths_B: Tensor, labels_BT: Tensor) -> Said:
        rows, count = len(x_BTD), len(self.prompt_PD)
        prompted = torch.cat([self.prompt_PD.to(x_BTD.dtype).expand(rows, -1, -1), x_BTD], dim=1)
        labels = torch.cat([labels_BT.new_full((rows, count), IGNORED), labels_BT], dim=1)
        return self.language.said(prompted, lengths_B + count, labels)

    def logits(self, states: Tensor) -> Tensor:
        return self.language.logits(states)

    def decoder(self, rows: Sequence[Tensor], room: int) -> Decoder:
        prompted = [torch.cat([self.prompt_PD.to(row.dtype), row]) for row in rows]
        return self.language.decoder(prompted, room + len(self.prompt_PD))

    def write_config(self, folder: Path) -> None:
        """Of the model inside."""
        self.language.write_config(folder)
