"""InfoNCE with smoothed labels (Szegedy et al. 2015, arXiv 1512.00567), without looking at the pairs again.

N pairs, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.objectives.contrastive import info_nce


def smoothed_info_nce(image_ND: Tensor, text_ND: Tensor, scale: Tensor, smoothing: float) -> Tensor:
    """The symmetric InfoNCE whose labels are 1 - e + e / N for the pair and e / N for every other candidate.

    Cross entropy is linear in the labels: against the plain loss, e of the pair's logit becomes the mean logit of the
    row. The mean over rows of both is a product of means, so memory and time stay those of the plain loss.

    Args:
        image_ND, text_ND: embeddings; row i of one belongs to row i of the other.
        scale: multiplies the products; a scalar.
        smoothing: e, in [0, 1].

    Returns:
        the mean over both directions and all rows, in nats; ln N for embeddings that say nothing.
    """
    plain = info_nce(image_ND, text_ND, scale)
    if not smoothing:
        return plain
    with torch.autocast(image_ND.device.type, enabled=False):
        image_ND, text_ND = image_ND.to(plain.dtype), text_ND.to(plain.dtype)
        matching = (image_ND * text_ND).sum(1).mean()
        return plain + smoothing * scale * (matching - image_ND.mean(0) @ text_ND.mean(0))
