"""Pixels by a distribution that ends where pixels end.

Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation" (DALL-E), arXiv 2102.12092, appendix A.3: the logit of a pixel
in (0, 1) is Laplace distributed,

    f(x | mu, b) = exp(-|logit(x) - mu| / b) / (2 b x (1 - x)),

and pixels are squeezed into [0.1, 0.9] first, for the density has no mass at the ends.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SQUEEZE = 0.1
SMALLEST_LOG_SCALE = -4.0
"""Of b: a picture of flat areas would otherwise be fitted ever more sharply, for ever larger gradients."""


def squeezed(share_BCHW: Tensor) -> Tensor:
    """Pixels in [0, 1] as pixels in [0.1, 0.9]."""
    return share_BCHW * (1 - 2 * SQUEEZE) + SQUEEZE


def unsqueezed(mu_BCHW: Tensor) -> Tensor:
    """The pixels, about [0, 1], of the medians of such distributions."""
    return (torch.sigmoid(mu_BCHW) - SQUEEZE) / (1 - 2 * SQUEEZE)


def logit_laplace(share_BCHW: Tensor, mu_BCHW: Tensor, log_scale_BCHW: Tensor) -> Tensor:
    """[B]: -log f in nats, averaged over channels and pixels.

    Args:
        share_BCHW: pixels in [0, 1].
        mu_BCHW, log_scale_BCHW: what the decoder says; the scale is bounded below by exp(-4).
    """
    x_BCHW = squeezed(share_BCHW)
    log_scale_BCHW = log_scale_BCHW.clamp(min=SMALLEST_LOG_SCALE)
    far_BCHW = (torch.logit(x_BCHW) - mu_BCHW).abs() * torch.exp(-log_scale_BCHW)
    terms_BCHW = far_BCHW + math.log(2) + log_scale_BCHW + torch.log(x_BCHW * (1 - x_BCHW))
    return terms_BCHW.flatten(1).mean(1)
