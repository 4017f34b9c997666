"""SimCLR's loss between two views of each picture; inputs are used as given, so normalise them before.

N pictures, M = 2N views, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.objectives.log_sum_exp import row_normalisers
from diptych.objectives.strips import exactly

TEMPERATURE = 0.1
"""Of SLIP's SimCLR term (arXiv 2112.12750); it is not learned."""


def nt_xent(first_ND: Tensor, second_ND: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """NT-Xent (Chen et al. 2020, arXiv 2002.05709, equation 1): each view finds the other one of its picture.

    All other 2N - 2 views are negatives, of the same and of the other draw; a view is not compared with itself. The
    products are taken in fp32 at least and in strips, so memory is linear in N.

    Args:
        first_ND, second_ND: embeddings of two views; row i of both is the same picture.

    Returns:
        the mean over all 2N views, in nats; ln(2N - 1) for embeddings that say nothing, 0 for a single picture.
    """
    first_ND, second_ND = exactly(first_ND, second_ND)
    views_MD, scale = torch.cat([first_ND, second_ND]), first_ND.new_tensor(1 / temperature)
    matching_N = scale * (first_ND * second_ND).sum(1)
    return row_normalisers(views_MD, views_MD, scale, skip_self=True).mean() - matching_N.mean()
