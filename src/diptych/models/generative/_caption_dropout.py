"""Caption dropout for classifier-free guidance: some texts are empty in training, so a model learns both cases.

Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv 2207.12598. B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.core.seeding import unit_interval
from diptych.data.batches.image_text import ImageTextBatch
from diptych.data.words.tokenizer import Tokenizer


def untold(seeds: Sequence[int], share: float) -> Tensor:
    """bool [B], True for the samples whose text is dropped."""
    return torch.tensor([unit_interval("no text", seed) < share for seed in seeds], dtype=torch.bool)


def with_dropped(batch: ImageTextBatch, tokenizer: Tokenizer, share: float) -> tuple[Tensor, Tensor]:
    """Tokens [B, T] and lengths [B] of the captions, some of them "" by their samples' seeds.

    Args:
        share: how many are dropped, of a large number.
    """
    nothing = torch.tensor(tokenizer.encode([""], batch.tokens_BT.shape[1])[0], device=batch.tokens_BT.device)
    dropped_B = untold(batch.seeds, share).to(batch.tokens_BT.device)
    tokens_BT, lengths_B = batch.tokens_BT.clone(), batch.lengths_B.clone()
    tokens_BT[dropped_B] = tokenizer.pad_id
    tokens_BT[dropped_B, : len(nothing)] = nothing
    lengths_B[dropped_B] = len(nothing)
    return tokens_BT, lengths_B
