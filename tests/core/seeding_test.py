import numpy as np
import torch

from diptych.core.seeding import Draw, hash_to_int, normal_like, permutation, unit_interval


def test_a_draw_depends_on_seed_epoch_key_and_purpose_only() -> None:
    base = Draw(1, 2, "k").rng("crop").random(4)
    assert np.array_equal(base, Draw(1, 2, "k").rng("crop").random(4))
    others = [
        Draw(2, 2, "k").rng("crop"),
        Draw(1, 3, "k").rng("crop"),
        Draw(1, 2, "j").rng("crop"),
        Draw(1, 2, "k").rng("flip"),
    ]
    assert not any(np.array_equal(base, other.random(4)) for other in others)


def test_parts_are_not_run_together() -> None:
    assert hash_to_int("ab", "c") != hash_to_int("a", "bc")
    assert 0 <= hash_to_int("x") < 2**63


def test_unit_interval_is_uniform() -> None:
    values = np.array([unit_interval("salt", i) for i in range(20_000)])
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    # 2,000 expected a bin with a standard deviation of 42: five of them.
    assert np.abs(counts - 2000).max() < 212


def test_permutation_is_a_shuffle_that_changes_with_the_epoch() -> None:
    first = permutation(1000, seed=3, epoch=0)
    assert sorted(first.tolist()) == list(range(1000))
    assert np.array_equal(first, permutation(1000, seed=3, epoch=0))
    assert (first == permutation(1000, seed=3, epoch=1)).mean() < 0.02


def test_noise_of_a_row_is_a_function_of_its_seed_alone() -> None:
    together = normal_like([5, 6, 7], (4,))
    assert torch.equal(together[1:2], normal_like([6], (4,)))
    assert abs(float(normal_like(range(400), (50,)).std()) - 1) < 0.02
