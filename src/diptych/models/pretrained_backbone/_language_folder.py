"""Language models from `transformers` folders: Llama's on our own trunk, any other as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import CheckpointError
from diptych.layers.pretrained import UNREADABLE, quiet, transformers_for
from diptych.models._public_folder import read_json, read_weights
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
            model, found = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
    except UNREADABLE as error:
        reason = f"{error}".partition("\n")[0] or "a file ends too early"
        raise CheckpointError(f"{folder} cannot be read as a causal language model: {reason}") from error
    if found["missing_keys"]:
        raise CheckpointError(
            f"{folder} lacks weights of its own model: {', '.join(sorted(found['missing_keys'])[:3])}"
        )
    return TransformersLm(model).eval()


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
        model = transformers.AutoModelForCausalLM.from_config(config)
    missing, left = model.load_state_dict(dict(weights), strict=False)
    tied = {"lm_head.weight"} if getattr(config, "tie_word_embeddings", False) else set()
    if wrong := [*sorted(set(missing) - tied), *sorted(left)]:
        raise CheckpointError(f"{where}: the language model's weight {wrong[0]} is missing, or left over")
    return TransformersLm(model.eval()).eval()


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
    return TransformersLm(transformers.AutoModelForCausalLM.from_config(config).eval())


def _is_llama(plain: dict[str, Any]) -> bool:
    return (plain.get("architectures") or [""])[0] in ARCHITECTURES
