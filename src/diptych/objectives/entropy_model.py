"""Bits that vectors take after rounding, under a learned density: the factorised prior of learned compression.

Each channel has a mixture of logistic distributions as its density, so its cumulative F is known, and a value rounded
to a multiple of `step` costs -log2 (F(value + step / 2) - F(value - step / 2)) bits: what an arithmetic coder needs,
for the probabilities of all cells sum to 1. In training, uniform noise of a step's width takes the place of rounding,
and the same formula is the density of the noisy value, with a gradient in the step too (Balle et al. 2018, arXiv
1802.01436, section 2; they learn F as a small monotone network, of which a mixture is a form with fewer numbers).

... leading sizes (often the points of a curve), N vectors, C channels, K logistics.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import DataError


class MixturePrior(NamedTuple):
    """Logistic mixtures, one a channel: plain tensors that an optimiser may hold.

    Attributes:
        logits_CK: unnormalised log weights, with any leading sizes.
        centres_CK: where the logistics stand.
        log_widths_CK: the logs of their scales.
    """

    logits_CK: Tensor
    centres_CK: Tensor
    log_widths_CK: Tensor


def standard_prior(*sizes: int, logistics: int = 3) -> MixturePrior:
    """Where to begin for channels of mean 0 and deviation 1: logistics spread over one deviation to either side.

    Args:
        sizes: leading sizes, then the number of channels.
    """
    shape = (*sizes, logistics)
    centres_K = torch.linspace(-1, 1, logistics) if logistics > 1 else torch.zeros(1)
    width = math.sqrt(3) / math.pi / (1 if logistics == 1 else math.sqrt(2))  # of a logistic of deviation 1
    return MixturePrior(torch.zeros(shape), centres_K.expand(shape).clone(), torch.full(shape, math.log(width)))


def bits(values_NC: Tensor, step_C: Tensor, prior: MixturePrior) -> Tensor:
    """The bits [N] of each vector: of rounded ones exactly, of ones with uniform noise for the gradient.

    Args:
        values_NC: as `rounded` or `with_noise` gives them, with leading sizes that broadcast to the prior's.
        step_C: the positive width of each channel's cells.
    """
    return channel_bits(values_NC, step_C, prior).sum(-1)


def channel_bits(values_NC: Tensor, step_C: Tensor, prior: MixturePrior) -> Tensor:
    """The bits [N, C] of each number."""
    widths_CK = prior.log_widths_CK.exp()
    half_CK = step_C[..., None] / (2 * widths_CK)
    offset_NCK = (values_NC[..., None] - prior.centres_CK[..., None, :, :]) / widths_CK[..., None, :, :]
    half_1CK = half_CK[..., None, :, :]
    # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): exact far out in the tails too
    log_cell_NCK = F.logsigmoid(offset_NCK + half_1CK) + F.logsigmoid(half_1CK - offset_NCK)
    log_cell_NCK = log_cell_NCK + torch.log(-torch.expm1(-2 * half_1CK))
    log_weights_CK = prior.logits_CK.log_softmax(-1)
    return -(log_cell_NCK + log_weights_CK[..., None, :, :]).logsumexp(-1) / math.log(2)


def rounded(values_NC: Tensor, step_C: Tensor) -> Tensor:
    """Each number as the nearest multiple of its channel's step; no gradient passes."""
    step_1C = step_C.detach()[..., None, :]
    return (values_NC / step_1C).round() * step_1C


def with_noise(values_NC: Tensor, step_C: Tensor, noise_NC: Tensor) -> Tensor:
    """Each number with noise of its channel's step.

    Args:
        noise_NC: uniform in [-1/2, 1/2).
    """
    return values_NC + noise_NC * step_C[..., None, :]


def fitted_prior(rounded_NC: Tensor, step_C: Tensor, logistics: int = 3, steps: int = 200) -> MixturePrior:
    """The mixtures that code rounded vectors in the fewest bits, found by Adam from the channels' moments.

    Raises:
        DataError: not a table with a row at least.
    """
    if rounded_NC.ndim != 2 or len(rounded_NC) == 0:
        raise DataError(f"a prior is fitted to vectors [N, C], at least one; got {list(rounded_NC.shape)}")
    mean_C = rounded_NC.mean(0)
    # A channel in one cell has no deviation; its cell's own width is what is known of it.
    unit_C = torch.maximum((rounded_NC - mean_C).square().mean(0).sqrt(), step_C / 4)
    start = standard_prior(len(step_C), logistics=logistics)
    learned = MixturePrior(*(x.to(rounded_NC).requires_grad_() for x in start))
    optimizer = torch.optim.Adam(learned, lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        cost = bits((rounded_NC - mean_C) / unit_C, step_C / unit_C, learned).mean()
        cost.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return _moved(learned, mean_C, unit_C)


def _moved(prior: MixturePrior, mean_C: Tensor, unit_C: Tensor) -> MixturePrior:
    """The prior of values * unit + mean."""
    logits_CK, centres_CK, log_widths_CK = (x.detach() for x in prior)
    return MixturePrior(
        logits_CK, centres_CK * unit_C[:, None] + mean_C[:, None], log_widths_CK + unit_C.log()[:, None]
    )
