"""Texts by a public model's own way of going on: the library's loop and caches, and our draws.

B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.sampling import TextSampling
from diptych.decoding.write import choose
from diptych.layers.backbone_folder import transformers_for
from diptych.models.pretrained_backbone._public_reader import Reader
from diptych.models.pretrained_backbone._public_rows import Row, joined


def written_rows(
    module: nn.Module, reader: Reader, rows: Sequence[Row], sampling: TextSampling, seeds: Sequence[int]
) -> list[list[int]]:
    """The tokens that each prompt goes on with, up to the one that ends it.

    Args:
        rows: on the model's device; each leaves room for a token.
        seeds: one a row; each draws by itself, whatever is written beside it.
    """
    rooms = [min(sampling.max_tokens, reader.context - row.length) for row in rows]
    inputs = joined(rows, reader.pad_id, left=True).inputs
    drawn = [Draws(sampling, seeds)] if sampling.temperature else []
    model: Any = module
    found_BT = model.generate(
        **inputs, generation_config=_settings(reader, sampling, max(rooms)), logits_processor=drawn
    )
    begun = inputs["input_ids"].shape[1]
    return [_until(row[begun:], reader.ends)[:room] for row, room in zip(found_BT.tolist(), rooms, strict=True)]


class Draws:
    """A processor of logits, as the library calls it, that leaves each row one token: the one that is drawn for it."""

    def __init__(self, sampling: TextSampling, seeds: Sequence[int]) -> None:
        self._sampling = sampling
        self._draws = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores_BV: Tensor) -> Tensor:
        chosen_B1 = choose(scores_BV, self._sampling, self._draws)[:, None]
        return torch.full_like(scores_BV, -torch.inf).scatter(1, chosen_B1, 0.0)


def _settings(reader: Reader, sampling: TextSampling, most: int) -> Any:
    """What is asked for and no more: a folder's own settings (penalties, temperatures) are left out."""
    return transformers_for("writing").GenerationConfig(
        max_new_tokens=most, do_sample=False, num_beams=sampling.beams, length_penalty=sampling.length_penalty,
        eos_token_id=sorted(reader.ends), pad_token_id=reader.pad_id,
    )  # fmt: skip


def _until(tokens: Sequence[int], ends: frozenset[int]) -> list[int]:
    place = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return list(tokens[:place])
