"""How differently two pictures look to a network, after LPIPS.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", arXiv 1801.03924, equation
1: features are brought to length one over the channels of every position, and squared distances are averaged over
positions. Departures: every channel weighs one (there the weights were learned from people's judgements), and depths
are averaged instead of added, so the distance is from 0 to 4 whatever the network.

B batch, C channels, P positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_EPS = 1e-6
"""Below this length a feature counts as short as it is: the direction of nothing has no meaning."""


def perceptual_distance(features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """[B]: the mean over depths and positions of the squared distance of unit vectors.

    Args:
        features, others: a map [B, C, P] a depth, of two batches of pictures.
    """
    depths = [
        (_unit(one_BCP) - _unit(other_BCP)).square().sum(1).mean(1)
        for one_BCP, other_BCP in zip(features, others, strict=True)
    ]
    return torch.stack(depths).mean(0)


def _unit(feature_BCP: Tensor) -> Tensor:
    """Vectors of length one over the channels; a sum of squares, since torch's norm of such columns takes long."""
    squares_B1P = feature_BCP.square().sum(1, keepdim=True)
    return feature_BCP * squares_B1P.clamp(min=_EPS**2).rsqrt()
