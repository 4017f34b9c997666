"""How much is known of the text once the picture is seen: InfoNCE of held-out pairs, in bits, with its interval.

The critic is a scale times the cosine of the encodings; the scale is fitted on pairs of its own. Pairs are cut into
batches of B, several times in other orders. The interval is the value plus or minus 1.96 deviations of a Bayesian
bootstrap (Rubin 1981): each pair gets a random weight, as a picture and as a candidate of the others, so that what
the pairs of a batch share is in it.

N pairs, P orders, G batches of all orders, B pairs a batch, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from diptych.core.records.results import Metric
from diptych.core.seeding import hash_to_int
from diptych.evaluation.metrics.ranking import Ranking
from diptych.objectives.mutual_information import info_nce_terms

ORDERS = 4
RESAMPLES = 400
MOST_SCALE = 1e4


@dataclass(frozen=True)
class BatchBound:
    """What batches of one size show.

    Attributes:
        batch: B.
        scale: of the critic, from the pairs it was fitted on.
        bound: on I(picture; text) in bits; at most log2 B.
        found: where the own text ranked among the B, an entry for each place of each batch.
        pairs: which pair stood in that place.
    """

    batch: int
    scale: float
    bound: Metric
    found: Ranking
    pairs: NDArray[np.int64]

    @property
    def cap(self) -> float:
        """log2 B: what no batch of this size can exceed."""
        return math.log2(self.batch)


def bound_at(fit_NN: Tensor, test_NN: Tensor, batch: int, seed: int) -> BatchBound:
    """The bound of one batch size.

    Args:
        fit_NN: cosines of every picture with every text of the pairs that the critic's scale is fitted on.
        test_NN: the same of the pairs that are measured, none of them among the former.
        batch: B, at most the number of pairs of either.
    """
    scale = fitted_scale(_in_batches(fit_NN, batches(len(fit_NN), batch, seed)))
    members_GB = batches(len(test_NN), batch, seed)
    scores_GBB = _in_batches(test_NN, members_GB)
    value = float(torch.stack([info_nce_terms(one) for one in scale * scores_GBB]).mean()) / math.log(2)
    spread = 1.96 * deviation(scale * scores_GBB, members_GB, len(test_NN), seed) / math.log(2)
    high = min(value + spread, math.log2(batch))
    bound = Metric(value, min(value - spread, value), max(high, value), n=len(test_NN), unit="number")
    return BatchBound(batch, scale, bound, _ranks(scores_GBB), members_GB.flatten().numpy())


def batches(pairs: int, batch: int, seed: int) -> Tensor:
    """Members [G, B]: the pairs in `ORDERS` seeded orders, cut into batches; what is left of an order is left out."""
    generator = torch.Generator().manual_seed(hash_to_int("batches", seed, batch))
    whole = pairs // batch
    orders = [torch.randperm(pairs, generator=generator)[: whole * batch] for _ in range(ORDERS)]
    return torch.cat(orders).view(-1, batch)


def fitted_scale(cosines_GBB: Tensor) -> float:
    """The scale of the critic with the highest bound; the bound is concave in it, so there is one."""
    own_GB = cosines_GBB.diagonal(dim1=1, dim2=2)

    def loss(log_scale: float) -> float:
        scale = math.exp(log_scale)
        return float(((cosines_GBB * scale).logsumexp(2) - scale * own_GB).mean())

    found = minimize_scalar(loss, bounds=(math.log(1e-3), math.log(MOST_SCALE)), method="bounded")
    return math.exp(float(found.x))


def deviation(scores_GBB: Tensor, members_GB: Tensor, pairs: int, seed: int) -> float:
    """The bound's standard deviation in nats over random weights of the pairs."""
    generator = torch.Generator().manual_seed(hash_to_int("weights", seed))
    weights_RN = torch.empty(RESAMPLES, pairs, dtype=scores_GBB.dtype).exponential_(generator=generator)
    total_R = torch.zeros(RESAMPLES, dtype=scores_GBB.dtype)
    mass_R = torch.zeros_like(total_R)
    for scores_BB, members_B in zip(scores_GBB, members_GB, strict=True):
        weights_RB = weights_RN[:, members_B]
        total_R += (weights_RB * _weighted_terms(scores_BB, weights_RB)).sum(1)
        mass_R += weights_RB.sum(1)
    return float((total_R / mass_R).std())


def _weighted_terms(scores_BB: Tensor, weights_RB: Tensor) -> Tensor:
    """Terms [R, B] of a batch whose candidates count by their weights; the own text counts as one of B throughout."""
    number = len(scores_BB)
    shifted_BB = scores_BB - scores_BB.amax(1, keepdim=True)
    own_B = shifted_BB.diagonal()
    exp_BB = shifted_BB.exp().fill_diagonal_(0.0)
    others_RB = weights_RB @ exp_BB.T / (weights_RB.sum(1, keepdim=True) - weights_RB) * (number - 1)
    return own_B - (own_B.exp() + others_RB).log() + math.log(number)


def _in_batches(cosines_NN: Tensor, members_GB: Tensor) -> Tensor:
    return cosines_NN.double()[members_GB[:, :, None], members_GB[:, None, :]]


def _ranks(scores_GBB: Tensor) -> Ranking:
    """Where the own text ranks among its batch, for each member of each batch."""
    own_GB1 = scores_GBB.diagonal(dim1=1, dim2=2)[..., None]
    above = (scores_GBB > own_GB1).sum(2).flatten().numpy()
    tied = (scores_GBB == own_GB1).sum(2).flatten().numpy() - 1
    return Ranking(above, tied, np.ones_like(tied))
