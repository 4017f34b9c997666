"""The bound on held-out pairs: its value by hand, its cap, its interval, and vectors that share known bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.evaluation.metrics.information_bound import (
    ORDERS,
    _weighted_terms,
    batches,
    bound_at,
    deviation,
    fitted_scale,
)
from diptych.objectives.mutual_information import info_nce_terms


def lumps(number: int, kinds: int, seed: int) -> Tensor:
    """Products of vectors and texts that tell the kind and nothing else: log2(kinds) bits are shared."""
    kind_N = torch.randint(kinds, (number,), generator=torch.Generator().manual_seed(seed))
    return (kind_N[:, None] == kind_N).double()


def noisy(number: int, seed: int, noise: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    image_ND = torch.randn(number, 8, dtype=torch.float64, generator=generator)
    text_ND = image_ND + noise * torch.randn(number, 8, dtype=torch.float64, generator=generator)
    return F.normalize(image_ND, dim=1) @ F.normalize(text_ND, dim=1).T


def test_batches_hold_every_pair_of_an_order_once() -> None:
    members_GB = batches(21, 5, 0)
    assert members_GB.shape == (ORDERS * 4, 5)
    for order in members_GB.view(ORDERS, 20):
        assert len(set(order.tolist())) == 20 and set(order.tolist()) <= set(range(21))
    assert members_GB.tolist() == batches(21, 5, 0).tolist() != batches(21, 5, 1).tolist()


def test_kinds_share_the_log_of_their_number() -> None:
    found = bound_at(lumps(600, 4, 0), lumps(600, 4, 1), 128, 0)
    assert found.bound.value == pytest.approx(2.0, abs=0.05)
    assert found.bound.low <= found.bound.value <= found.bound.high  # type: ignore[operator]
    assert found.cap == 7.0
    # All of a kind are alike, so the own text is never strictly first; the expectation is one of a kind's number.
    assert found.found.strict(1).max() == 0.0
    assert found.found.expected(1).mean() == pytest.approx(4 / 128, abs=0.01)


def test_it_saturates_at_the_cap() -> None:
    values = [bound_at(noisy(1000, 0, 0.3), noisy(1000, 1, 0.3), size, 0) for size in (8, 32, 128, 500)]
    for one in values:
        assert one.bound.value <= one.cap
        assert one.bound.high <= one.cap  # type: ignore[operator]
    found = [one.bound.value for one in values]
    assert found == sorted(found)
    assert found[0] > 2.95 and found[-1] > 5


def test_pairs_that_share_nothing_have_a_bound_of_nothing() -> None:
    shuffled = noisy(800, 2)[:, torch.randperm(800, generator=torch.Generator().manual_seed(3))]
    found = bound_at(noisy(400, 4)[:, torch.randperm(400, generator=torch.Generator().manual_seed(5))], shuffled, 32, 0)
    assert abs(found.bound.value) < 0.02
    assert found.found.expected(1).mean() == pytest.approx(1 / 32, abs=0.02)


def test_the_value_is_the_mean_of_terms_at_the_fitted_scale() -> None:
    fit_NN, test_NN = noisy(40, 6), noisy(33, 7)
    found = bound_at(fit_NN, test_NN, 8, 0)
    members_GB = batches(33, 8, 0)
    terms = [info_nce_terms(found.scale * test_NN[rows][:, rows]) for rows in members_GB]
    assert found.bound.value == pytest.approx(float(torch.cat(terms).mean()) / math.log(2), abs=1e-12)
    assert found.pairs.tolist() == members_GB.flatten().tolist()
    ranks = [1 + sum(test_NN[i, j] > test_NN[i, i] for j in rows if j != i) for rows in members_GB for i in rows]
    assert found.found.rank().tolist() == [int(rank) for rank in ranks]


def test_the_scale_is_the_best_of_a_grid() -> None:
    members_GB = batches(64, 16, 0)
    cosines_GBB = noisy(64, 8)[members_GB[:, :, None], members_GB[:, None, :]]

    def value(scale: float) -> float:
        return float(torch.stack([info_nce_terms(scale * one) for one in cosines_GBB]).mean())

    best = fitted_scale(cosines_GBB)
    assert value(best) >= max(value(scale) for scale in np.geomspace(0.1, 1000, 200)) - 1e-6


def test_weights_of_one_are_the_plain_terms_and_heavy_candidates_count_more() -> None:
    scores_BB = noisy(6, 9)
    terms_RB = _weighted_terms(scores_BB, torch.ones(2, 6, dtype=torch.float64))
    assert torch.allclose(terms_RB[0], info_nce_terms(scores_BB), atol=1e-12)
    weights = torch.tensor([[1.0, 2.0, 1.0, 3.0, 0.5, 1.5]], dtype=torch.float64)
    s, w = scores_BB.tolist(), weights[0].tolist()
    for i in range(6):
        others = [j for j in range(6) if j != i]
        mean = sum(w[j] * math.exp(s[i][j]) for j in others) / sum(w[j] for j in others)
        expected = s[i][i] - math.log((math.exp(s[i][i]) + 5 * mean) / 6)
        assert float(_weighted_terms(scores_BB, weights)[0, i]) == pytest.approx(expected, abs=1e-12)


def test_the_deviation_is_that_of_other_draws_of_the_pairs() -> None:
    """Against the deviation over fresh data sets, which it estimates from one of them."""
    values, estimates = [], []
    for seed in range(60):
        scores_NN = 4.0 * noisy(160, 100 + seed)
        members_GB = batches(160, 16, 0)
        scores_GBB = scores_NN[members_GB[:, :, None], members_GB[:, None, :]]
        values.append(float(torch.stack([info_nce_terms(one) for one in scores_GBB]).mean()))
        estimates.append(deviation(scores_GBB, members_GB, 160, 0))
    assert np.mean(estimates) == pytest.approx(np.std(values, ddof=1), rel=0.25)
