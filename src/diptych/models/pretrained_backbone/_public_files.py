"""Vision-language models of `transformers` as they are: their weights and the library's own processor of each.

A processor that would read videos too is built without that part: it needs torchvision, and no video is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from diptych.core.errors import CheckpointError
from diptych.layers.backbone_folder import UNREADABLE, quiet, transformers_for

_PICTURES_ALONE = ("image_processor", "tokenizer")


class Public(NamedTuple):
    """What a folder holds.

    Attributes:
        module: a `transformers` model with a head of words, in evaluation mode.
        processor: the library's own: texts and pictures in, tensors out.
    """

    module: nn.Module
    processor: Any


def read_public(folder: Path) -> Public:
    """The model and processor of a folder, weights in the type that they are stored in.

    Raises:
        CheckpointError: the folder is no such model, a truncated one, or lacks weights.
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for(f"the model {folder}")
    try:
        with quiet(transformers.utils.logging):
            module, found = transformers.AutoModelForImageTextToText.from_pretrained(
                folder, dtype="auto", output_loading_info=True, trust_remote_code=False
            )
    except UNREADABLE as error:
        raise _unreadable(folder, "model", error) from error
    _require_all(folder, found)
    return Public(module.eval(), read_processor(folder))


def public_from_config(folder: Path) -> Public:
    """What `write_public` described, with fresh weights.

    Raises:
        CheckpointError: a file is missing or damaged.
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for(f"the model {folder}")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        module = transformers.AutoModelForImageTextToText.from_config(config, dtype=config.dtype or torch.float32)
        module.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    except UNREADABLE as error:
        raise _unreadable(folder, "configuration", error) from error
    return Public(module.eval(), read_processor(folder))


def write_public(public: Public, folder: Path) -> None:
    """Writes all but the weights."""
    module: Any = public.module
    module.config.save_pretrained(folder)
    module.generation_config.save_pretrained(folder)
    public.processor.save_pretrained(folder)


def read_processor(folder: Path) -> Any:
    """The processor of a folder, of pictures and texts.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    transformers = transformers_for(f"the processor of {folder}")
    try:
        with quiet(transformers.utils.logging):
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            kind = of_pictures(transformers.PROCESSOR_MAPPING[type(config)])
            return kind.from_pretrained(folder, trust_remote_code=False)
    except (KeyError, *UNREADABLE) as error:
        raise _unreadable(folder, "processor", error) from error


def of_pictures(kind: Any) -> Any:
    """The library's class of processors, or one of the same name that asks for no part that reads videos."""
    if "video_processor" not in kind.get_attributes():
        return kind
    return type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda _: list(_PICTURES_ALONE))})


def _require_all(folder: Path, found: Mapping[str, Any]) -> None:
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(f"{folder} lacks weights of its own model: {', '.join(missing[:3])}")


def _unreadable(folder: Path, what: str, error: Exception) -> CheckpointError:
    reason = f"{error}".partition("\n")[0] or "a file ends too early"
    return CheckpointError(f"{folder} cannot be read as the {what} of a vision-language model: {reason}")
