"""The order of samples: a permutation an epoch, another in each, and ranks share every batch out among them."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from diptych.data.loading.order import Order, Position
from diptych.distributed.world import World


def stream(order: Order, batch: int, batches: int, at: Position = Position()) -> list[tuple[int, int]]:  # noqa: B008
    """(epoch, index) of each sample."""
    found: list[tuple[int, int]] = []
    for _ in range(batches):
        piece = order.take(at, batch)
        assert len(piece.indices) == len(piece.epochs) == batch
        found += zip(piece.epochs, piece.indices, strict=True)
        at = piece.after
    return found


@pytest.mark.parametrize("length", [12, 960, 10_000])
def test_each_epoch_is_a_permutation_of_its_own(length: int) -> None:
    seen = stream(Order(length, 0, True), 4, 3 * length // 4)
    epochs = [[index for epoch, index in seen if epoch == number] for number in range(3)]
    assert all(sorted(one) == list(range(length)) for one in epochs)
    for one, other in pairwise(epochs):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < max(6, length * 0.01)


def test_the_shuffle_is_global() -> None:
    first = [index for _, index in stream(Order(10_000, 0, True), 100, 100)]
    positions = np.array(first)
    assert abs(np.corrcoef(np.arange(10_000), positions)[0, 1]) < 0.03
    # Every tenth of an epoch draws from every tenth of the data.
    counts = np.histogram2d(np.arange(10_000), positions, bins=10)[0]
    assert counts.min() > 60 and counts.max() < 140


def test_another_seed_is_another_order_and_the_same_seed_the_same() -> None:
    orders = [stream(Order(100, seed, True), 10, 20) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_without_shuffling_samples_come_as_they_lie() -> None:
    assert stream(Order(6, 5, False), 3, 4) == [(epoch, index) for epoch in (0, 1) for index in range(6)]


def test_what_fills_no_batch_is_left_out_another_part_each_epoch() -> None:
    seen = stream(Order(10, 0, True), 4, 40)
    assert {epoch for epoch, _ in seen} == set(range(20))
    missed = []
    for number in range(20):
        one = [index for epoch, index in seen if epoch == number]
        assert len(one) == len(set(one)) == 8
        missed.append(frozenset(range(10)) - set(one))
    assert len(set(missed)) > 10 and frozenset().union(*missed) == set(range(10))


def test_a_batch_never_holds_a_sample_twice_unless_it_is_larger_than_the_data() -> None:
    order, at = Order(10, 0, True), Position()
    for _ in range(30):
        piece = order.take(at, 7)
        assert len(set(piece.indices)) == 7
        at = piece.after
    small = Order(3, 0, True).take(Position(), 8)
    assert Counter(small.indices[:6]) == Counter([0, 1, 2] * 2) and small.epochs == (0, 0, 0, 1, 1, 1, 2, 2)
    assert small.after == Position(2, 2)


def test_a_position_holds_for_any_batch_size() -> None:
    whole = stream(Order(24, 0, True), 1, 48)
    order = Order(24, 0, True)
    for batch in (2, 3, 4, 6, 8, 12, 24):
        assert stream(order, batch, 48 // batch) == whole
        rest = 12 // batch
        assert stream(order, batch, rest, Position(1, 12)) == whole[36 : 36 + rest * batch]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16])
def test_ranks_part_every_batch_among_them_in_order(size: int) -> None:
    order, at = Order(100, 0, True), Position()
    for _ in range(8):
        piece = order.take(at, 16)
        shares = [piece.share(World(rank, size)) for rank in range(size)]
        assert tuple(index for share in shares for index in share.indices) == piece.indices
        assert tuple(epoch for share in shares for epoch in share.epochs) == piece.epochs
        lengths = [len(share.indices) for share in shares]
        assert max(lengths) - min(lengths) <= 1
        assert {share.after for share in shares} == {piece.after}
        at = piece.after


def test_over_an_epoch_ranks_partition_the_data() -> None:
    order, at = Order(60, 0, True), Position()
    of_rank: list[set[int]] = [set(), set(), set()]
    for _ in range(5):
        piece = order.take(at, 12)
        for rank, seen in enumerate(of_rank):
            seen |= set(piece.share(World(rank, 3)).indices)
        at = piece.after
    assert [len(seen) for seen in of_rank] == [20, 20, 20] and set.union(*of_rank) == set(range(60))
