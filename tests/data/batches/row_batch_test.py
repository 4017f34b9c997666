"""Batches of rows: cut and moved field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.data.batches.row_batch import RowBatch


class Tokens(NamedTuple):
    tokens_BT: Tensor
    lengths_B: Tensor


@dataclass(frozen=True)
class Some(RowBatch):
    pixels_BC: Tensor
    text: Tokens
    asked: tuple[tuple[int, int], ...]
    codes_BP: Tensor | None = None


BATCH = Some(
    ("a", "b", "c"),
    torch.arange(6).view(3, 2),
    Tokens(torch.arange(12).view(3, 4), torch.tensor([1, 2, 4])),
    ((1, 2), (3, 4), (5, 6)),
)


def test_every_field_is_cut_alike_and_shares_memory() -> None:
    first, second = BATCH.split(2)
    assert isinstance(first, Some) and [part.num_samples for part in (BATCH, first, second)] == [3, 2, 1]
    assert second.keys == ("c",) and second.asked == ((5, 6),) and second.codes_BP is None
    assert isinstance(second.text, Tokens) and second.text.lengths_B.tolist() == [4]
    assert second.text.tokens_BT.tolist() == [[8, 9, 10, 11]]
    assert first.pixels_BC.data_ptr() == BATCH.pixels_BC.data_ptr()


def test_tensors_are_moved_wherever_they_stand() -> None:
    moved = BATCH.to(torch.device("meta"))
    assert {one.device.type for one in (moved.pixels_BC, *moved.text)} == {"meta"}
    assert moved.keys == BATCH.keys and moved.asked == BATCH.asked and moved.codes_BP is None
