"""What a public model folder holds besides weights: sizes, preprocessing, tokenizer. transformers and open_clip.

transformers itself is not needed: the files are read as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diptych.core.errors import CheckpointError, ConfigError
from diptych.data.pixels.images import CLIP_MEAN, CLIP_STD, ImagePreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.transformer import Activation

# transformers' names of the activations that these towers use.
ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "quick_gelu": Activation.QUICK_GELU,
}
_BILINEAR, _BICUBIC = 2, 3  # PIL's numbers, which preprocessor_config.json writes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: not there, or not one.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} lacks {path.name}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is truncated or not JSON") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return found


def read_weights(folder: Path, stem: str = "model", legacy: str = "pytorch_model.bin") -> dict[str, Tensor]:
    """The state dict of a folder: one safetensors file, several with an index, or a pickled one read as weights only.

    Position ids, which older files hold as a buffer, are left out: they count from zero always.

    Raises:
        CheckpointError: none of them is there, or one is damaged.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if (folder / f"{stem}.safetensors").is_file():
        files = [folder / f"{stem}.safetensors"]
    elif index.is_file():
        files = _files_of(index)
    elif (folder / legacy).is_file():
        files = [folder / legacy]
    else:
        raise CheckpointError(f"no weights in {folder}: expected {stem}.safetensors or {legacy}")
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(_read_file(file))
    return {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}


def _files_of(index: Path) -> list[Path]:
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise CheckpointError(f"{index} names no files of weights")
    return [index.parent / name for name in sorted(set(named.values()))]


def _read_file(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return loaded
    except FileNotFoundError as error:
        raise CheckpointError(f"no weights at {file}") from error
    except UnpicklingError as error:
        raise CheckpointError(
            f"{file} is truncated or damaged, or holds more than weights, which is not run"
        ) from error
    except (SafetensorError, EOFError, RuntimeError) as error:
        reason = f"{error}".partition("\n")[0]
        raise CheckpointError(f"{file} is truncated or damaged: {reason or 'it ends too early'}") from error


def read_preprocessing(folder: Path, image_size: int) -> ImagePreprocessing:
    """`preprocessor_config.json` as ours (or what version 5 writes of a whole processor): geometry, kernel, mean.

    Raises:
        CheckpointError: neither file is there.
        ConfigError: it asks for what is not done here.
    """
    path, plain = _preprocessing_file(folder)
    size = plain.get("size", image_size)
    crops = bool(plain.get("do_center_crop", isinstance(size, dict) and "shortest_edge" in size))
    resample = plain.get("resample", _BICUBIC)
    if resample not in (_BICUBIC, _BILINEAR):
        raise ConfigError(f"{path}: resampling {resample} is not done here, bicubic (3) and bilinear (2) are")
    sides = {*_sides(size), *(_sides(plain.get("crop_size", image_size)) if crops else ())}
    uncut = isinstance(size, dict) and "shortest_edge" in size and not crops
    if sides != {image_size} or uncut or not plain.get("do_resize", True):
        raise ConfigError(f"{path}: pictures are not made {image_size} x {image_size}, as the tower takes them")
    factor = plain.get("rescale_factor", 1 / 255)
    if not plain.get("do_rescale", True) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise ConfigError(f"{path}: pixels are not scaled by 1/255, which is all that is done here")
    normalised = plain.get("do_normalize", True)
    return ImagePreprocessing(
        size=image_size,
        resize="shorter_crop" if crops else "squash",
        mean=_triple(plain.get("image_mean", CLIP_MEAN)) if normalised else (0.0, 0.0, 0.0),
        std=_triple(plain.get("image_std", CLIP_STD)) if normalised else (1.0, 1.0, 1.0),
        kernel="bicubic" if resample == _BICUBIC else "bilinear",
    )


def _preprocessing_file(folder: Path) -> tuple[Path, dict[str, Any]]:
    whole = folder / "processor_config.json"
    if whole.is_file() and isinstance(inner := read_json(whole).get("image_processor"), dict):
        return whole, inner
    path = folder / "preprocessor_config.json"
    return path, read_json(path)


def _sides(size: int | Mapping[str, int]) -> list[int]:
    return [size] if isinstance(size, int) else list(size.values())


def write_preprocessing(config: ImagePreprocessing, processor: str) -> dict[str, Any]:
    """The content of a `preprocessor_config.json`."""
    crops = config.resize == "shorter_crop"
    size: dict[str, int] = {"shortest_edge": config.size} if crops else {"height": config.size, "width": config.size}
    plain: dict[str, Any] = {
        "image_processor_type": processor,
        "do_resize": True,
        "size": size,
        "resample": _BICUBIC if config.kernel == "bicubic" else _BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
        "do_convert_rgb": True,
    }
    if crops:
        plain |= {"do_center_crop": True, "crop_size": {"height": config.size, "width": config.size}}
    return plain


def bert_tokenizer(tokens: Tokenizer, longest: int) -> dict[str, Any]:
    """The content of a `tokenizer_config.json` with BERT's names of the control tokens."""
    named = {
        "cls_token": tokens.start_id,
        "sep_token": tokens.end_id,
        "pad_token": tokens.pad_id,
        "mask_token": tokens.mask_id,
    }
    spelled = {role: tokens.backend.id_to_token(index) for role, index in named.items() if index is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, **spelled}


def write_json(path: Path, plain: dict[str, Any]) -> None:
    """As `read_json` reads it."""
    path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def activation(name: str) -> Activation:
    """Our activation of transformers' name.

    Raises:
        ConfigError: it is not done here.
    """
    if name not in ACTIVATIONS:
        raise ConfigError(f"activation '{name}' is not done here; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def activation_name(found: Activation) -> str:
    """transformers' name of our activation."""
    return next(name for name, ours in ACTIVATIONS.items() if ours is found)


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
