"""Language models from `transformers` folders: Llama's on our own trunk, any other, causal or not, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.errors import CheckpointError
from diptych.layers.backbone_folder import UNREADABLE, quiet, transformers_for
from diptych.models._public_folder import read_json, read_weights
from diptych.models.pretrained_backbone._encoder_decoder import EncoderDecoder, untie
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._llama import ARCHITECTURES, Llama, llama_of, sizes_of
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm


def read_language(folder: Path) -> LanguageModel:
    """The language model of a folder, in float32, in evaluation mode.

    Raises:
        CheckpointError: the folder is no model, a truncated one, or lacks weights.
        ConfigError: it has a part that is not done here.
        MissingExtra: transformers is not installed.
    """
    plain = read_json(folder / "config.json")
    if _is_llama(plain):
        return llama_of(plain, {name: one.float() for name, one in read_weights(folder).items()}, folder)
    transformers = transformers_for(f"the language model {folder}")
    try:
        with quiet(transformers.utils.logging):
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model, found = _automatic(config).from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
    except UNREADABLE as error:
        reason = f"{error}".partition("\n")[0] or "a file ends too early"
        raise CheckpointError(f"{folder} cannot be read as a language model: {reason}") from error
    if found["missing_keys"]:
        raise CheckpointError(
            f"{folder} lacks weights of its own model: {', '.join(sorted(found['missing_keys'])[:3])}"
        )
    return _wrapped(model)


def language_of(plain: Mapping[str, Any], weights: Mapping[str, Tensor], where: Path) -> LanguageModel:
    """The language model of a configuration and weights that are part of something larger.

    Raises:
        CheckpointError: a weight is missing or left over.
    """
    if plain.get("model_type") == "llama":
        return llama_of(plain, weights, where)
    transformers = transformers_for(f"the language model of {where}")
    sizes = {name: value for name, value in plain.items() if name != "model_type"}
    config = transformers.AutoConfig.for_model(plain.get("model_type", ""), **sizes)
    with quiet(transformers.utils.logging):
        model = _automatic(config).from_config(config)
    head = weights.get("lm_head.weight")
    if head is not None:  # a library that ties it would have it overwrite the embedding
        model.get_output_embeddings().weight = nn.Parameter(head.clone())
    _load(model, weights, where)
    return _wrapped(model)


def language_from_config(folder: Path) -> LanguageModel:
    """The model that `LanguageModel.write_config` described, with fresh weights.

    Raises:
        CheckpointError: there is no such configuration.
        MissingExtra: transformers is not installed.
    """
    plain = read_json(folder / "config.json")
    if _is_llama(plain):
        return Llama(sizes_of(plain, folder))
    transformers = transformers_for(f"the language model {folder}")
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = _automatic(config).from_config(config)
    untie(model)
    return _wrapped(model)


def _automatic(config: Any) -> Any:
    """The library's class of a configuration's kind."""
    transformers = transformers_for("a language model")
    both: bool = config.is_encoder_decoder
    return transformers.AutoModelForSeq2SeqLM if both else transformers.AutoModelForCausalLM


def _wrapped(model: Any) -> LanguageModel:
    model.eval()
    kind = EncoderDecoder if model.config.is_encoder_decoder else TransformersLm
    return kind(model).eval()


def _load(model: Any, weights: Mapping[str, Tensor], where: Path) -> None:
    """Strictly, but that one of several names of a tied weight is enough."""
    own = model.state_dict()
    if wrong := [name for name in weights if name in own and own[name].shape != weights[name].shape]:
        raise CheckpointError(f"{where}: the weight {wrong[0]} is not of the shape its configuration says")
    missing, left = model.load_state_dict(dict(weights), strict=False)
    there = {own[name].data_ptr() for name in weights if name in own}
    if wrong := [*(name for name in sorted(missing) if own[name].data_ptr() not in there), *sorted(left)]:
        raise CheckpointError(f"{where}: the language model's weight {wrong[0]} is missing, or left over")


def _is_llama(plain: dict[str, Any]) -> bool:
    return (plain.get("architectures") or [""])[0] in ARCHITECTURES
