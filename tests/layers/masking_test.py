"""Which patches and tokens stay: how many, whose draw it is, and that nothing but the draw decides."""

from __future__ import annotations

import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.layers.masking import kept_patches, kept_tokens, number_kept, patches_kept

SEEDS = tuple(range(100, 140))
LENGTHS = torch.tensor([12, 2, 3, 7])


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"),
    [(196, 0.5, 98), (196, 0.75, 49), (49, 0.5, 24), (10, 0.9, 1), (64, 0.3, 44), (9, 0, 9)],
)
def test_the_floor_of_what_is_left_stays(patches: int, ratio: float, kept: int) -> None:
    assert patches_kept(patches, ratio) == kept
    assert kept_patches(SEEDS, patches, kept).shape == (40, kept)


def test_a_ratio_that_leaves_no_patch_is_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match=r"95% of 16 patches leaves none: mask at most 0\.9375"):
        patches_kept(16, 0.95)
    assert patches_kept(16, 0.9375) == 1


def test_each_sample_draws_its_own_patches_each_once_and_all_equally_often() -> None:
    places = kept_patches(range(4000), 12, 5)
    assert bool((places.diff(dim=1) > 0).all()), "ascending, so each once"
    share = places.flatten().bincount(minlength=12) / 4000
    assert bool((share - 5 / 12).abs().max() < 0.03)
    assert len({tuple(row) for row in places.tolist()}) > 700  # of 792
    assert torch.equal(kept_patches([7], 12, 5), places[7:8]), "not a function of the rest of the batch"
    assert not torch.equal(kept_patches(range(4000), 12, 5, "strong view 1"), places)


def texts() -> torch.Tensor:
    """Each token says where it is; the pad is 99."""
    places = torch.arange(12).expand(4, 12)
    return torch.where(places < LENGTHS[:, None], places, 99)


@pytest.mark.parametrize("first", [0, 1])
def test_start_and_end_stay_and_of_the_rest_the_floor_in_order(first: int) -> None:
    for seed in range(30):
        tokens, lengths, places = kept_tokens([seed, 5, 6, seed], texts(), LENGTHS, 0.5, first)
        for row, length, place, whole in zip(tokens.tolist(), lengths.tolist(), places.tolist(), LENGTHS, strict=True):
            body = int(whole) - first - 1
            assert length == first + 1 + max(body // 2, min(body, 1))
            assert row[:length] == place[:length] == sorted(place[:length])
            assert row[:first] == [0][:first] and row[length - 1] == int(whole) - 1 and 99 not in row[:length]


def test_tokens_are_dropped_equally_often_and_by_each_rows_own_seed() -> None:
    rows = torch.arange(12).expand(3000, 12)
    lengths = torch.full((3000,), 12)
    tokens = kept_tokens(range(3000), rows, lengths, 0.4, 1).tokens_BJ
    share = tokens.flatten().bincount(minlength=12) / 3000
    assert share[0] == share[11] == 1
    assert bool((share[1:11] - 0.6).abs().max() < 0.04)
    alone = kept_tokens([17], rows[:1], lengths[:1], 0.4, 1).tokens_BJ
    assert torch.equal(alone[0], tokens[17])


def test_padding_goes_first_where_the_share_is_one_of_the_context() -> None:
    """Of a context of 16 with a start token 14 places are for text; half of them stay, and most texts are shorter."""
    kept = kept_tokens([1, 2, 3, 4], texts(), LENGTHS, 0.5, 1, context=16)
    assert kept.lengths_B.tolist() == [9, 2, 3, 7]
    assert torch.equal(kept.tokens_BJ[3, :7], torch.arange(7))


def test_nothing_dropped_is_everything() -> None:
    kept = kept_tokens([1, 2, 3, 4], texts(), LENGTHS, 0.0, 1)
    assert torch.equal(kept.tokens_BJ, texts()) and torch.equal(kept.lengths_B, LENGTHS)
    assert number_kept(5, 0.0) == 5
