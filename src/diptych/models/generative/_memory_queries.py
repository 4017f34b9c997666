"""Prompts of texts and pictures as queries to a memory of documents.

N prompts, D width of the memory's vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.generator import Prompt
from diptych.models._batches import batches
from diptych.models.generative._memory import Memory

_TOGETHER = 64


@torch.inference_mode()
def queries_of(
    prompts: Sequence[Prompt], memory: Memory, tokens: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
    pixels: Callable[[Sequence[Any]], Tensor],
) -> Tensor:  # fmt: skip
    """[N, D]: the mean of the parts of each prompt as a unit vector; zero where it has none.

    Args:
        tokens, pixels: of texts and pictures, as the model takes them.
    """
    device = memory.vectors_ND.device
    found_ND = memory.vectors_ND.new_zeros(len(prompts), memory.vectors_ND.shape[1])
    parts = [(row, part) for row, prompt in enumerate(prompts) for part in prompt]
    said = [(row, part) for row, part in parts if isinstance(part, str) and part.strip()]
    shown = [(row, part) for row, part in parts if not isinstance(part, str)]
    for some in batches(said, _TOGETHER):
        rows, texts = zip(*some, strict=True)
        read = [part.to(device) for part in tokens(texts)]
        found_ND.index_add_(0, torch.tensor(rows, device=device), memory.of_texts(*read))
    for some in batches(shown, _TOGETHER):
        rows, pictures = zip(*some, strict=True)
        found_ND.index_add_(0, torch.tensor(rows, device=device), memory.of_pictures(pixels(pictures).to(device)))
    return F.normalize(found_ND, dim=-1)
