"""Rows of a batch in pieces of similar length."""

from __future__ import annotations

import torch

from diptych.layers.length_buckets import rows_by_length


def test_every_row_is_in_one_piece_with_its_longest() -> None:
    lengths_B = torch.tensor([30, 4000, 50, 40, 3000, 30, 60, 1200, 30])
    pieces = rows_by_length(lengths_B, 4)
    assert len(pieces) == 4
    assert sorted(torch.cat([rows for rows, _ in pieces]).tolist()) == list(range(9))
    assert [longest for _, longest in pieces] == [int(lengths_B[rows].max()) for rows, _ in pieces]


def test_similar_lengths_and_no_rows_are_one_piece_in_order() -> None:
    ((rows, longest),) = rows_by_length(torch.tensor([9, 10, 8]), 4)
    assert rows.tolist() == [0, 1, 2] and longest == 10
    ((rows, _),) = rows_by_length(torch.tensor([], dtype=torch.int64), 4)
    assert len(rows) == 0
    assert len(rows_by_length(torch.tensor([1, 4000, 2, 3]), 1)) == 1
