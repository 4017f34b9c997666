"""BLIP-2's image-text contrast: a picture is several queries, and a text is as close to it as to the closest one.

Li et al. 2023, "BLIP-2", arXiv 2301.12597, section 3.1 (image-text contrastive learning).

I pictures, J texts, Q queries of a picture, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_PICTURES_AT_ONCE = 64
"""Whose products with all texts are in memory at a time."""


def best_query(image_IQD: Tensor, text_JD: Tensor) -> Tensor:
    """[I, J]: the largest of the products of a picture's vectors with a text's."""
    parts = [torch.einsum("iqd,jd->ijq", some, text_JD).amax(-1) for some in torch.split(image_IQD, _PICTURES_AT_ONCE)]
    return torch.cat(parts)


def best_query_contrast(close_IJ: Tensor, temperature: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross entropy both ways, the mean of both, in nats; ln I where nothing is known.

    Args:
        close_IJ: square: picture i belongs to text i.
        temperature: a divisor; it is learned as it is, and not as its logarithm.
        smoothing: e: labels are 1 - e + e / I for the pair and e / I for every other one.
    """
    logits_IJ = close_IJ / temperature
    labels_I = torch.arange(len(logits_IJ), device=logits_IJ.device)
    ways = (logits_IJ, logits_IJ.T)
    return sum((F.cross_entropy(one, labels_I, label_smoothing=smoothing) for one in ways), logits_IJ.new_zeros(())) / 2
