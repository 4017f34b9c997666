"""Dropout by sample: its rate, its mean, and that nothing but seed, purpose and place decides."""

from __future__ import annotations

import pytest
import torch

from diptych.layers.keyed_dropout import keyed_dropout

SEEDS = torch.tensor([3, 2**62 + 5, 0, 7])


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_rate_is_the_probability_and_the_mean_stays(probability: float) -> None:
    x = torch.ones(200, 5000, dtype=torch.float64)
    out = keyed_dropout(x, probability, torch.arange(200) * 977, "a")
    dropped = (out == 0).double()
    error = (probability * (1 - probability) / 5000) ** 0.5  # of a row's share
    assert float(dropped.mean()) == pytest.approx(probability, abs=5 * error / 200**0.5)
    assert float((dropped.mean(1) - probability).abs().max()) < 5 * error
    assert float(dropped.mean(1).std()) == pytest.approx(error, rel=0.3)  # rows are independent draws
    kept = out[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - probability)))


def test_neighbouring_places_seeds_and_purposes_are_independent() -> None:
    def mask(seeds: torch.Tensor, purpose: str) -> torch.Tensor:
        return (keyed_dropout(torch.ones(len(seeds), 20_000), 0.5, seeds, purpose) != 0).double() * 2 - 1

    first = mask(SEEDS, "a")
    bound = 5 / 20_000**0.5
    for other in (mask(SEEDS + 1, "a"), mask(SEEDS, "b"), first.roll(1, 1), first.roll(1, 0)):
        assert float((first * other).mean(1).abs().max()) < bound


def test_a_row_does_not_depend_on_the_batch_it_comes_in() -> None:
    x = torch.randn(4, 30)
    whole = keyed_dropout(x, 0.4, SEEDS, "a")
    torch.manual_seed(1)
    parts = [keyed_dropout(x[rows], 0.4, SEEDS[rows], "a") for rows in (slice(0, 1), slice(1, 4))]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(keyed_dropout(x[:, :10], 0.4, SEEDS, "a"), whole[:, :10])


def test_nothing_is_dropped_at_zero() -> None:
    x = torch.randn(4, 30)
    assert keyed_dropout(x, 0.0, SEEDS, "a") is x


def test_the_gradient_goes_through_what_was_kept() -> None:
    x = torch.randn(4, 30, requires_grad=True)
    out = keyed_dropout(x, 0.5, SEEDS, "a")
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, torch.where(out == 0, 0.0, 2.0))
