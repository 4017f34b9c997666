"""Bounds on the mutual information of two variables from a critic's scores of pairs; in nats, divide by ln 2 for bits.

`scores_NN` holds the critic's value for every x of a batch with every y of it; the pairs on the diagonal were drawn
together, all others are taken for draws from the product of the marginals, so the N pairs must be independent. Every
bound holds for any critic and is tight for the one that its docstring names, where r(x, y) = p(x, y) / (p(x) p(y)).
On held-out pairs it measures; on the pairs a critic was fitted to it flatters. All are differentiable.

After Poole et al. 2019, "On variational bounds of mutual information" (arXiv 1905.06922).

N pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import DataError


def info_nce_bound(scores_NN: Tensor) -> Tensor:
    """ln N + mean of log softmax of the own y among the batch's (van den Oord et al. 2018, arXiv 1807.03748).

    A lower bound in expectation for every critic, of low variance; tight, up to its cap, for log r(x, y) + any c(x).
    It can never exceed ln N: of 8 pairs, 3 bits are all that a batch can show, whatever is shared.
    """
    return info_nce_terms(scores_NN).mean()


def info_nce_terms(scores_NN: Tensor) -> Tensor:
    """The term [N] of each x, whose mean is the bound; each is at most ln N."""
    own_N = _square(scores_NN).diagonal()
    return own_N - scores_NN.logsumexp(1) + math.log(len(own_N))


def nwj_bound(scores_NN: Tensor) -> Tensor:
    """E f - E' exp(f - 1) over joint and product (Nguyen, Wainwright and Jordan 2010, arXiv 0809.0853).

    A lower bound in expectation for every critic, without a cap; tight for 1 + log r(x, y). Its variance grows like the
    exponential of the information, so at more than a few nats it takes very many pairs.
    """
    return _square(scores_NN).diagonal().mean() - (_log_mean_of_others(scores_NN) - 1).exp()


def donsker_varadhan_estimate(scores_NN: Tensor) -> Tensor:
    """E f - log E' exp f over joint and product (Belghazi et al. 2018, MINE, arXiv 1801.04062).

    Donsker and Varadhan's lower bound in the limit of infinitely many pairs, tight for log r(x, y) + any c. The log of
    a batch's mean is too low on average, so on a finite batch the value is too high: an estimate, not a bound.
    """
    return _square(scores_NN).diagonal().mean() - _log_mean_of_others(scores_NN)


def jensen_shannon_objective(scores_NN: Tensor) -> Tensor:
    """-E softplus(-f) - E' softplus(f): what a critic is trained on (Hjelm et al. 2019, arXiv 1808.06670).

    Its maximum, for f = log r(x, y), is twice the Jensen-Shannon divergence less ln 4. It is no bound on the mutual
    information; `jensen_shannon_bound` reads one off the same critic.
    """
    own_N, others = _square(scores_NN).diagonal(), _others(scores_NN)
    return -F.softplus(-own_N).mean() - F.softplus(others).mean()


def jensen_shannon_bound(scores_NN: Tensor) -> Tensor:
    """The NWJ bound of the critic 1 + f, for f trained by `jensen_shannon_objective` (Poole et al., section 2.4).

    A lower bound in expectation for every f, tight for log r(x, y): the training is stable, the bound's variance is
    that of NWJ.
    """
    return nwj_bound(1 + scores_NN)


def leave_one_out_upper(log_conditional_NN: Tensor) -> Tensor:
    """An upper bound where the encoder's density is known: E log p(z_i | x_i) / mean over j != i of p(z_i | x_j).

    Poole et al., equation 13. It assumes no critic but the true log p(z | x), which a stochastic encoder has; tight as
    N grows. Needs two pairs at least.

    Args:
        log_conditional_NN: log p(z_i | x_j) in row i and column j.
    """
    own_N = _square(log_conditional_NN, least=2).diagonal()
    number = len(own_N)
    is_own_NN = torch.eye(number, dtype=torch.bool, device=own_N.device)
    marginal_N = log_conditional_NN.masked_fill(is_own_NN, -math.inf).logsumexp(1) - math.log(number - 1)
    return (own_N - marginal_N).mean()


def _log_mean_of_others(scores_NN: Tensor) -> Tensor:
    """log E' exp f over the pairs that were not drawn together."""
    others = _others(scores_NN)
    return others.logsumexp(0) - math.log(len(others))


def _others(scores_NN: Tensor) -> Tensor:
    """The N (N - 1) scores off the diagonal."""
    number = len(_square(scores_NN, least=2))
    return scores_NN.reshape(-1)[1:].view(number - 1, number + 1)[:, :-1].flatten()


def _square(scores_NN: Tensor, least: int = 1) -> Tensor:
    if scores_NN.ndim != 2 or scores_NN.shape[0] != scores_NN.shape[1]:
        raise DataError(f"scores of N pairs are a table [N, N], own pairs on its diagonal; got {list(scores_NN.shape)}")
    if len(scores_NN) < least:
        raise DataError(f"this bound compares with others and needs {least} pairs at least; got {len(scores_NN)}")
    return scores_NN
