"""Bounds on mutual information on Gaussians whose information is known, and by loops.

x and y are D pairs of correlation rho, so I = -D / 2 ln(1 - rho^2); the best critic is the log of the density ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from diptych.core.errors import DataError
from diptych.objectives import mutual_information as mi
from diptych.objectives.contrastive import info_nce, information_bound

Bound = Callable[[Tensor], Tensor]


def information(width: int, rho: float) -> float:
    return -width / 2 * math.log(1 - rho**2)


def conditional(pairs: int, width: int, rho: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """log p(y_i | x_j) [N, N] and log p(y_i) [N]."""
    x_ND, noise_ND = torch.randn(2, pairs, width, dtype=torch.float64, generator=generator)
    y_ND = rho * x_ND + math.sqrt(1 - rho**2) * noise_ND
    off_NND = (y_ND[:, None] - rho * x_ND[None]) ** 2 / (1 - rho**2)
    log_conditional = -0.5 * (off_NND + math.log(2 * math.pi * (1 - rho**2))).sum(2)
    return log_conditional, -0.5 * (y_ND**2 + math.log(2 * math.pi)).sum(1)


def mean_and_error(bound: Bound, pairs: int, width: int, rho: float, times: int) -> tuple[float, float]:
    """The bound of the log density ratio, averaged over batches, and its standard error."""
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(times):
        log_conditional_NN, log_marginal_N = conditional(pairs, width, rho, generator)
        values.append(float(bound((log_conditional_NN - log_marginal_N[:, None]).T)))
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.std() / math.sqrt(times))


def test_info_nce_stays_below_the_information_and_below_its_cap() -> None:
    true = information(8, 0.9)  # 6.64 nats: 9.6 bits
    means = []
    for pairs in (8, 32, 128, 512, 1024):
        mean, error = mean_and_error(mi.info_nce_bound, pairs, 8, 0.9, max(3, 2048 // pairs))
        assert mean < math.log(pairs) and mean < true + 3 * error
        means.append(mean)
    assert means == sorted(means)
    assert means[0] > 0.98 * math.log(8)  # saturated: 8 pairs show 3 bits and no more
    assert means[-1] < true


def test_info_nce_finds_a_small_information() -> None:
    true = information(2, 0.5)
    mean, error = mean_and_error(mi.info_nce_bound, 512, 2, 0.5, 40)
    assert mean == pytest.approx(true, abs=3 * error + 0.01)


@pytest.mark.parametrize(
    "bound",
    [lambda scores: mi.nwj_bound(1 + scores), mi.jensen_shannon_bound, mi.donsker_varadhan_estimate],
    ids=["nwj", "jensen_shannon", "donsker_varadhan"],
)
def test_the_others_are_tight_for_their_best_critic(bound: Bound) -> None:
    true = information(4, 0.6)
    mean, error = mean_and_error(bound, 256, 4, 0.6, 60)
    assert error < 0.05
    assert mean == pytest.approx(true, abs=3 * error + 0.01)


def test_uncapped_bounds_pass_the_cap_of_the_batch() -> None:
    true = information(6, 0.8)  # 3.06 nats, and a batch of 8 caps at 2.08
    mean, error = mean_and_error(lambda scores: mi.nwj_bound(1 + scores), 8, 6, 0.8, 4000)
    assert mean - 3 * error > math.log(8)
    assert mean == pytest.approx(true, abs=4 * error)
    capped, _ = mean_and_error(mi.info_nce_bound, 8, 6, 0.8, 400)
    assert capped < math.log(8)


def test_the_donsker_varadhan_estimate_is_too_high_on_small_batches() -> None:
    true = information(6, 0.8)
    mean, error = mean_and_error(mi.donsker_varadhan_estimate, 8, 6, 0.8, 2000)
    assert mean > true + 5 * error


def test_a_known_encoder_is_held_from_both_sides() -> None:
    true = information(4, 0.6)
    generator = torch.Generator().manual_seed(1)
    tables = [conditional(64, 4, 0.6, generator)[0] for _ in range(200)]
    upper = torch.stack([mi.leave_one_out_upper(table) for table in tables])
    lower = torch.stack([mi.info_nce_bound(table) for table in tables])
    upper_error, lower_error = upper.std() / math.sqrt(200), lower.std() / math.sqrt(200)
    assert lower.mean() - 3 * lower_error < true < upper.mean() + 3 * upper_error
    assert upper.mean() > lower.mean()
    assert upper.mean() - lower.mean() < 0.5


@pytest.mark.parametrize("bound", [mi.info_nce_bound, mi.nwj_bound, mi.jensen_shannon_bound])
def test_no_critic_passes_the_information(bound: Bound) -> None:
    """Wrong critics: of another scale, of noise, shifted."""
    true = information(4, 0.6)
    for change in (lambda s: 0.5 * s, lambda s: s.tanh(), lambda s: s - 1.0, lambda s: torch.zeros_like(s)):
        mean, error = mean_and_error(lambda s, change=change: bound(change(s)), 64, 4, 0.6, 60)
        assert mean < true + 3 * error


def test_values_by_loops() -> None:
    scores = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    s = scores.tolist()
    own = [s[i][i] for i in range(5)]
    others = [s[i][j] for i in range(5) for j in range(5) if i != j]
    nce = sum(own[i] - math.log(sum(math.exp(v) for v in s[i]) / 5) for i in range(5)) / 5
    assert float(mi.info_nce_bound(scores)) == pytest.approx(nce, abs=1e-12)
    mean_exp = sum(map(math.exp, others)) / 20
    assert float(mi.nwj_bound(scores)) == pytest.approx(sum(own) / 5 - mean_exp / math.e, abs=1e-12)
    assert float(mi.donsker_varadhan_estimate(scores)) == pytest.approx(sum(own) / 5 - math.log(mean_exp), abs=1e-12)
    assert float(mi.jensen_shannon_bound(scores)) == pytest.approx(1 + sum(own) / 5 - mean_exp, abs=1e-12)
    softplus = sum(math.log1p(math.exp(-v)) for v in own) / 5 + sum(math.log1p(math.exp(v)) for v in others) / 20
    assert float(mi.jensen_shannon_objective(scores)) == pytest.approx(-softplus, abs=1e-12)
    loo = sum(own[i] - math.log(sum(math.exp(s[i][j]) for j in range(5) if j != i) / 4) for i in range(5)) / 5
    assert float(mi.leave_one_out_upper(scores)) == pytest.approx(loo, abs=1e-12)


def test_the_contrastive_loss_is_this_bound_in_both_directions() -> None:
    image_ND, text_ND = F.normalize(torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(3)), dim=-1)
    scores = 5.0 * image_ND @ text_ND.T
    both = (mi.info_nce_bound(scores) + mi.info_nce_bound(scores.T)) / 2
    loss = info_nce(image_ND, text_ND, torch.tensor(5.0))
    assert float(information_bound(loss, 6)) == pytest.approx(float(both), abs=1e-6)


def test_the_jensen_shannon_objective_is_greatest_at_the_log_ratio() -> None:
    """On a joint of two symbols: the maximum over the critic's four values is at log r, and is 2 JS - ln 4."""
    joint = torch.tensor([[0.4, 0.1], [0.1, 0.4]], dtype=torch.float64)
    product = torch.full((2, 2), 0.25, dtype=torch.float64)

    def objective(critic: Tensor) -> Tensor:
        return -(joint * F.softplus(-critic)).sum() - (product * F.softplus(critic)).sum()

    critic = (joint / product).log().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(critic), critic)
    assert gradient.abs().max() < 1e-12
    mixture = (joint + product) / 2
    js = ((joint * (joint / mixture).log()).sum() + (product * (product / mixture).log()).sum()) / 2
    assert float(objective(critic).detach()) == pytest.approx(float(2 * js - math.log(4)), abs=1e-12)


@pytest.mark.parametrize(
    "bound",
    [
        mi.info_nce_bound,
        mi.nwj_bound,
        mi.donsker_varadhan_estimate,
        mi.jensen_shannon_objective,
        mi.jensen_shannon_bound,
        mi.leave_one_out_upper,
    ],
)
def test_gradients(bound: Bound) -> None:
    scores = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    assert gradcheck(bound, (scores,))


def test_bad_scores_are_refused() -> None:
    with pytest.raises(DataError, match=r"a table \[N, N\], own pairs on its diagonal; got \[2, 3\]"):
        mi.info_nce_bound(torch.zeros(2, 3))
    with pytest.raises(DataError, match="needs 2 pairs at least; got 1"):
        mi.nwj_bound(torch.zeros(1, 1))
    with pytest.raises(DataError, match="needs 2 pairs at least; got 1"):
        mi.leave_one_out_upper(torch.zeros(1, 1))
    assert float(mi.info_nce_bound(torch.zeros(1, 1))) == 0.0
