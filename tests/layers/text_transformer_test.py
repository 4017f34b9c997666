"""The text tower: what is left out of the computation leaves no trace in the result."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from diptych.core.errors import DataError
from diptych.layers import length_buckets
from diptych.layers.length_buckets import PIECE, bucket_ends, in_length_buckets
from diptych.layers.text_transformer import TextConfig, TextTransformer

CONFIG = TextConfig(vocab_size=40, context=12, width=24, depth=3, heads=3, hidden=36)
LENGTHS = torch.tensor([12, 3, 7, 1])


def tower(config: TextConfig = CONFIG) -> TextTransformer:
    """Random everywhere, in float64."""
    made = TextTransformer(config).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


def tokens(rows: int = 4, longest: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(3, 40, (rows, longest), generator=torch.Generator().manual_seed(seed))


def whole(module: TextTransformer, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """Every block at every position, one text at a time, without padding; then the one that is read."""
    rows = []
    for text, length in zip(tokens_BT, lengths_B.tolist(), strict=True):
        x_1TD = module.embedding(text[None, :length]) + module.positions_TD[:length]
        x_1TD = module.transformer(x_1TD, causal=module.config.causal)
        rows.append(module.norm_post(x_1TD)[0, -1])
    return torch.stack(rows)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_the_last_block_at_one_position_is_that_position_of_the_whole(causal: bool) -> None:
    module = tower(replace(CONFIG, causal=causal))
    assert_equal(module(tokens(), LENGTHS), whole(module, tokens(), LENGTHS))


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_are_those_of_the_whole(causal: bool) -> None:
    module = tower(replace(CONFIG, causal=causal))
    weights = torch.randn(4, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    parameters = list(module.parameters())
    found = torch.autograd.grad((module(tokens(), LENGTHS) * weights).sum(), parameters)
    expected = torch.autograd.grad((whole(module, tokens(), LENGTHS) * weights).sum(), parameters)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("causal", [True, False])
def test_padding_of_any_length_and_content_changes_nothing(causal: bool) -> None:
    module = tower(replace(CONFIG, causal=causal))
    lengths = LENGTHS.clamp(max=7)
    cut = module(tokens()[:, :7], lengths)
    assert_equal(module(tokens(), lengths), cut)
    other = torch.where(torch.arange(12) < lengths[:, None], tokens(), tokens(seed=9))
    assert not torch.equal(other, tokens())
    assert_equal(module(other, lengths), cut)


def test_constant_padding_is_read() -> None:
    module = tower(replace(CONFIG, causal=False, padding="constant"))
    lengths = LENGTHS.clamp(max=7)
    padded = torch.where(torch.arange(12) < lengths[:, None], tokens(), 2)
    found = module(padded, lengths)
    assert_equal(found, whole(module, padded, torch.full((4,), 12)))  # the last position, whatever the length
    assert_equal(module(padded, torch.ones_like(lengths)), found)
    assert float((module(padded[:, :8], lengths) - found).detach().abs().max()) > 1e-3


def test_a_causal_tower_sees_what_comes_before_the_end_and_nothing_after() -> None:
    module = tower()
    before = module(tokens()[:1], torch.tensor([5]))
    for place in range(12):
        changed = tokens()[:1].clone()
        changed[0, place] = (changed[0, place] + 1) % 40
        moved = float((module(changed, torch.tensor([5])) - before).abs().max())
        assert (moved > 1e-6) == (place < 5), place


def test_within_a_causal_tower_a_position_does_not_see_later_ones() -> None:
    module = tower()
    x_BTD = module.embedding(tokens()) + module.positions_TD
    later = x_BTD.clone()
    later[:, 6:] += torch.randn(6, 24, dtype=torch.float64)
    for causal, equal in ((True, True), (False, False)):
        first, second = (module.transformer(x, causal=causal)[:, :6] for x in (x_BTD, later))
        assert torch.allclose(first, second, rtol=1e-12, atol=1e-12) == equal


def test_checkpointed_activations_give_the_same_gradients() -> None:
    module = tower()
    found = []
    for on in (False, True):
        module.transformer.checkpointing = on
        loss = module(tokens(), LENGTHS).square().sum()
        found.append(torch.autograd.grad(loss, list(module.parameters())))
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-12, atol=1e-12)


def test_a_text_longer_than_the_context_is_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match="a text of 13 tokens is longer than the context of 12"):
        tower()(tokens(longest=13), torch.tensor([13] * 4))


@pytest.mark.parametrize("buckets", [1, 2, 3, 4])
def test_buckets_of_length_give_every_text_its_own_vector_in_its_place(
    buckets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length_buckets, "PIECE", 0)  # so few tokens would stay in one piece
    module = tower()
    rows = tokens(9)
    lengths = torch.tensor([12, 1, 2, 7, 1, 3, 12, 2, 4])
    assert len(bucket_ends(lengths.tolist(), buckets)) == buckets
    assert_equal(in_length_buckets(module, rows, lengths, buckets), module(rows, lengths))


def test_buckets_compute_less_than_the_whole_rectangle_and_similar_lengths_stay_together() -> None:
    seen: list[tuple[int, ...]] = []

    def encode(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        seen.append(tuple(tokens_BT.shape))
        assert int(lengths_B.max()) == tokens_BT.shape[1]
        return lengths_B[:, None].double()

    lengths = torch.tensor([400, 10, 20, 20, 10, 30, 20, 20])
    assert torch.equal(in_length_buckets(encode, tokens(8, 400), lengths), lengths[:, None].double())
    assert seen == [(7, 30), (1, 400)]
    seen.clear()
    in_length_buckets(encode, tokens(3), torch.tensor([9, 10, 9]))
    assert seen == [(3, 10)]  # one piece, cut to its longest


def test_cuts_are_the_cheapest_of_all() -> None:
    draw = random.Random(0)
    for _ in range(200):
        lengths = [draw.choice([3, 5, 60, 200, 500, 900]) for _ in range(draw.randint(1, 9))]
        ordered, most = sorted(lengths), draw.randint(1, 4)
        every = [
            [*cuts, len(lengths)] for pieces in range(most) for cuts in combinations(range(1, len(lengths)), pieces)
        ]
        found = bucket_ends(lengths, most)
        assert len(found) <= most and found[-1] == len(lengths)
        assert price(ordered, found) == min(price(ordered, ends) for ends in every)


def price(ordered: list[int], ends: list[int]) -> int:
    return sum((end - begin) * ordered[end - 1] + PIECE for begin, end in pairwise([0, *ends]))
