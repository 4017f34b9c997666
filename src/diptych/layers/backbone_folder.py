"""Backbones of `transformers`: read from a folder, built from a configuration, or random and tiny for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from diptych.core.errors import CheckpointError, MissingExtra

UNREADABLE = (OSError, ValueError, SafetensorError, UnpicklingError, EOFError, RuntimeError)
"""What damaged files of each kind raise in the library."""
_NOT_AUTOMATIC = {"blip_2_vision_model": "Blip2VisionModel", "instructblip_vision_model": "InstructBlipVisionModel"}
"""Models that the library's AutoModel does not know by their configuration."""


def read_backbone(folder: Path, side: Literal["vision", "text"]) -> nn.Module:
    """The weights of a `transformers` folder, in float32; of a two-tower model (CLIP), the named side.

    Raises:
        CheckpointError: the folder is no model, a truncated one, or lacks weights.
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for(f"the pretrained tower {folder}")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no transformers folder: it has no config.json")
    try:
        with quiet(transformers.utils.logging):
            # Sizes that differ are listed rather than raised; code in the folder is refused rather than asked about.
            model, found = transformers.AutoModel.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
                trust_remote_code=False,
            )  # fmt: skip
    except UNREADABLE as error:
        reason = f"{error}".partition("\n")[0] or "a file ends too early"
        raise CheckpointError(f"{folder} cannot be read as a transformers model: {reason}") from error
    part = one_side(model, side)
    kept = set(part.state_dict())
    prefix = "" if part is model else f"{side}_model."
    missing = sorted(name for name in found["missing_keys"] if name.removeprefix(prefix) in kept)
    if missing:
        raise CheckpointError(f"{folder} lacks weights of its own model: {', '.join(missing[:3])}")
    names = [str(name) for name, *_ in found["mismatched_keys"]]
    if wrong := sorted(name for name in names if name.removeprefix(prefix) in kept):
        raise CheckpointError(f"{folder} has weights of another size than its config.json says: {', '.join(wrong[:3])}")
    return part


def backbone_from_config(folder: Path, side: Literal["vision", "text"]) -> nn.Module:
    """The backbone that `Tower.write_config` described, with fresh weights.

    Raises:
        CheckpointError: there is no such configuration.
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for(f"the pretrained tower {folder}")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = f"{error}".partition("\n")[0]
        raise CheckpointError(f"{folder} holds no tower configuration: {reason}") from error
    return one_side(model_of(config), side)


def model_of(config: Any) -> nn.Module:
    """The model of a `transformers` configuration, with fresh weights."""
    transformers = transformers_for("a pretrained tower")
    if name := _NOT_AUTOMATIC.get(config.model_type):
        model: nn.Module = getattr(transformers, name)(config)
        return model
    automatic: nn.Module = transformers.AutoModel.from_config(config)
    return automatic


def tiny_vision_backbone(width: int = 32, image_size: int = 32) -> nn.Module:
    """A random ViT of one layer: for contract tests and trials.

    Raises:
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for("a pretrained tower")
    config = transformers.ViTConfig(
        hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=2 * width,
        image_size=image_size, patch_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    backbone: nn.Module = transformers.AutoModel.from_config(config)
    return backbone


def tiny_text_backbone(vocab_size: int, width: int = 32, context: int = 64) -> nn.Module:
    """A random BERT of one layer: for contract tests and trials.

    Raises:
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for("a pretrained tower")
    config = transformers.BertConfig(
        vocab_size=vocab_size, hidden_size=width, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=context, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return one_side(transformers.AutoModel.from_config(config), "text")


def one_side(model: nn.Module, side: Literal["vision", "text"]) -> nn.Module:
    """The half of a two-tower model; of a text model, all but the pooling layer, which nothing here reads."""
    part: nn.Module = getattr(model, f"{side}_model", model)
    if side == "text" and getattr(part, "pooler", None) is not None:
        part.pooler = None  # type: ignore[assignment]
    return part


def transformers_for(purpose: str) -> Any:
    """The library.

    Raises:
        MissingExtra: it is not installed, and `purpose` needs it.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "transformers", purpose) from error
    return transformers


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """Without the library's report of unused heads and its progress bar; what is missing is checked by us."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
