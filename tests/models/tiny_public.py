"""Tiny models of `transformers` with every parameter random, saved as the library itself saves them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, processors
from torch import Tensor, nn

from diptych.models._weight_tables import Entry, read

_logging: Any = transformers.utils.logging
_logging.set_verbosity_error()
_logging.disable_progress_bar()

WORDS = ["!", "a", "red", "the", "small", "photo", "of", "dog", "cat", "on", "beach", "house", "under", "two", "green"]
CAPTIONS = (
    "a photo of the dog",
    "red",
    "two small cat on a beach under the green house",
    "a a a",
    "the dog of a photo",
)
START, END = "<|startoftext|>", "<|endoftext|>"
IMAGE_SIZE, CONTEXT = 16, 12

VISION = {
    "hidden_size": 20, "num_hidden_layers": 3, "num_attention_heads": 5, "intermediate_size": 28,
    "image_size": IMAGE_SIZE, "patch_size": 4,
}  # fmt: skip
TEXT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "max_position_embeddings": CONTEXT, "vocab_size": len(WORDS) + 2,
}  # fmt: skip


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Every parameter away from zero and one: default initial values hide missing wiring."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            one = "norm" in name and name.endswith("weight")
            parameter.copy_(one + 0.3 * noise)


def write_tokenizer(folder: Path, *, start: bool, pad: str = END) -> None:
    """Whole words as tokens, the start and the end with the highest ids, as CLIP has them."""
    names = [*WORDS, START, END] if start else [*WORDS, "unused", END]
    vocabulary = {name: index for index, name in enumerate(names)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="!"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces = [(name, vocabulary[name]) for name in ([START, END] if start else [END])]
    pattern = f"{START} $A {END}" if start else f"$A {END}"
    backend.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=pieces)
    backend.save(str(folder / "tokenizer.json"))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": pad}
    (folder / "tokenizer_config.json").write_text(json.dumps(named | ({"bos_token": START} if start else {})))


def write_preprocessor(folder: Path, size: dict[str, int], **more: Any) -> None:
    plain = {"size": size, "resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], **more}
    (folder / "preprocessor_config.json").write_text(json.dumps(plain))


def tiny_clip(folder: Path, *, pad: str = END, text: dict[str, Any] | None = None, **vision: Any) -> Any:
    """A CLIPModel in float64 and evaluation mode, and its folder in float32."""
    ids = {"bos_token_id": len(WORDS), "eos_token_id": len(WORDS) + 1, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        text_config=TEXT | ids | (text or {}), vision_config=VISION | vision, projection_dim=18
    )
    crop = {"do_center_crop": True, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
    write_tokenizer(folder, start=True, pad=pad)
    write_preprocessor(folder, {"shortest_edge": IMAGE_SIZE}, **crop)
    return _saved(transformers.CLIPModel(config), folder)


def tiny_siglip(folder: Path, *, text: dict[str, Any] | None = None, **vision: Any) -> Any:
    """A SiglipModel; the text's vector is as wide as the picture's."""
    ids = {"bos_token_id": 1, "eos_token_id": len(WORDS) + 1, "pad_token_id": len(WORDS) + 1}
    sizes = TEXT | ids | {"projection_size": VISION["hidden_size"]} | (text or {})
    config = transformers.SiglipConfig(text_config=sizes, vision_config=VISION | vision)
    write_tokenizer(folder, start=False)
    write_preprocessor(folder, {"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    return _saved(transformers.SiglipModel(config), folder)


def tiny_vit(folder: Path, **vision: Any) -> Any:
    """A ViTForImageClassification with three named classes."""
    names = {0: "cat", 1: "dog", 2: "house"}
    config = transformers.ViTConfig(**VISION | vision, id2label=names, label2id={n: i for i, n in names.items()})
    write_preprocessor(folder, {"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    return _saved(transformers.ViTForImageClassification(config), folder)


def _saved(model: Any, folder: Path) -> Any:
    model.eval()
    randomise(model)
    model.save_pretrained(folder)
    return model.double()


def pixels(count: int, height: int = IMAGE_SIZE, width: int = IMAGE_SIZE, seed: int = 1) -> Tensor:
    """Prepared pictures [N, 3, H, W] in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)


def photograph(height: int = 23, width: int = 41, seed: int = 2) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth picture that is not square, [H, W, 3]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 7, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (fine[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def assert_equal(found: Tensor, expected: Tensor) -> None:
    """As equal as two orders of float64 sums are."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def compare_gradients(ours: nn.Module, theirs: nn.Module, entries: Iterable[Entry]) -> None:
    """Every parameter's gradient, ours and theirs, through the same table as the weights."""
    public = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    lacking = [name for name, gradient in public.items() if gradient is None]
    assert not lacking, lacking
    expected = read(entries, {name: gradient for name, gradient in public.items() if gradient is not None}, Path())
    found = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert gradient is not None, name
        # The keys' bias alone moves nothing, so "every gradient is there" cannot be asked of a part of qkv.
        assert bool(gradient.abs().max() > 1e-9), name
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-10, msg=name)


def insensitive(module: nn.Module, outputs: Any) -> list[str]:
    """Names of parameters whose perturbation leaves `outputs()` where they were: wiring that is not there."""
    before = outputs()
    dead = []
    for name, parameter in module.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        if float((outputs() - before).abs().max()) < 1e-6:
            dead.append(name)
        with torch.no_grad():
            parameter.copy_(kept)
    return dead
