"""SimCLR's loss between two views of each picture; inputs are used as given, so normalise them before.

N pictures, M = 2N views, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

TEMPERATURE = 0.1
"""Of SLIP's SimCLR term (arXiv 2112.12750); it is not learned."""
_STRIP = 1024


def nt_xent(first_ND: Tensor, second_ND: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """NT-Xent (Chen et al. 2020, arXiv 2002.05709, equation 1): each view finds the other one of its picture.

    All other 2N - 2 views are negatives, of the same and of the other draw; a view is not compared with itself. The
    M x M products are taken in fp32 at least and in strips that are computed again in the backward pass, so memory is
    linear in N.

    Args:
        first_ND, second_ND: embeddings of two views; row i of both is the same picture.

    Returns:
        the mean over all 2N views, in nats; ln(2N - 1) for embeddings that say nothing, 0 for a single picture.
    """
    with torch.autocast(first_ND.device.type, enabled=False):
        views_MD = torch.cat([first_ND, second_ND])
        views_MD = views_MD.to(torch.promote_types(views_MD.dtype, torch.float32))
        strips = [
            checkpoint(_others, views_MD, begin, temperature, use_reentrant=False, preserve_rng_state=False)
            for begin in range(0, len(views_MD), _STRIP)
        ]
        matching_N = (views_MD[: len(first_ND)] * views_MD[len(first_ND) :]).sum(1) / temperature
        return torch.cat(strips).mean() - matching_N.mean()


def _others(views_MD: Tensor, begin: int, temperature: float) -> Tensor:
    """logsumexp of a strip of rows over all views but the row's own."""
    strip_SD = views_MD[begin : begin + _STRIP]
    logits_SM = strip_SD @ views_MD.T / temperature
    rows_S = torch.arange(len(strip_SD), device=views_MD.device)
    itself_SM = torch.zeros_like(logits_SM, dtype=torch.bool)
    itself_SM[rows_S, begin + rows_S] = True
    return logits_SM.masked_fill(itself_SM, -torch.inf).logsumexp(1)
