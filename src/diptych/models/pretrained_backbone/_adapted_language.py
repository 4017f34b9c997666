"""A language model with an adapter inside its linear maps."""

from __future__ import annotations

from diptych.adapters.language import LanguageAdapterConfig, add_adapter
from diptych.models.pretrained_backbone._encoder_decoder import EncoderDecoder
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm


def adapt(language: LanguageModel, config: LanguageAdapterConfig) -> frozenset[str]:
    """Puts the adapter in, in place; the names of its parameters in the model, none where there is none.

    Raises:
        ConfigError: there is nothing to change.
        MissingExtra: peft is not installed.
    """
    if config.method == "none":
        return frozenset()
    if isinstance(language, TransformersLm | EncoderDecoder):  # peft knows their maps by the configuration inside
        return frozenset(f"model.{name}" for name in add_adapter(language.model, config))
    return add_adapter(language, config)
