"""Contrastive objectives as pure functions of embeddings; inputs are used as given, so normalise them before.

The products of all pairs are taken in fp32 at least, also of bf16 embeddings and under autocast: at a scale of 100, the
8 bits of a bf16 logit leave steps of half a nat.

N pairs, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CLIP_SCALE_INIT = math.log(1 / 0.07)
"""CLIP's log scale at initialisation (arXiv 2103.00020, section 2.4): 2.6593."""
CLIP_SCALE_MAX = math.log(100.0)
"""CLIP clips the scale at 100, "to prevent training instability" (the same section)."""
SIGLIP_SCALE_INIT = math.log(10.0)
"""SigLIP's log scale at initialisation (arXiv 2303.15343, algorithm 1)."""
SIGLIP_BIAS_INIT = -10.0
"""SigLIP's bias at initialisation: almost every pair of a batch is a negative (the same algorithm)."""


def info_nce(image_ND: Tensor, text_ND: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric InfoNCE (arXiv 2103.00020, figure 3): row i of one side belongs to row i of the other.

    Args:
        image_ND, text_ND: embeddings.
        scale: multiplies the products; a scalar, already exponentiated.

    Returns:
        the mean over both directions and all rows, in nats; ln N for embeddings that say nothing.
    """
    logits_NN = _products(image_ND, text_ND, scale)
    matching_N = logits_NN.diagonal()
    return (logits_NN.logsumexp(1) - matching_N).mean() / 2 + (logits_NN.logsumexp(0) - matching_N).mean() / 2


def sigmoid_loss(image_ND: Tensor, text_ND: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """SigLIP's pairwise loss (arXiv 2303.15343, equation 1): every pair is a yes or no question of its own.

    Args:
        image_ND, text_ND: embeddings.
        scale, bias: scalars; a logit is scale * product + bias.

    Returns:
        the sum over all N x N pairs divided by N (not by N x N), in nats.
    """
    logits_NN = _products(image_ND, text_ND, scale) + bias
    # Every pair as a negative, then the diagonal turned into positives: softplus(-x) = softplus(x) - x.
    return (F.softplus(logits_NN).sum() - logits_NN.diagonal().sum()) / image_ND.shape[0]


def _products(image_ND: Tensor, text_ND: Tensor, scale: Tensor) -> Tensor:
    with torch.autocast(image_ND.device.type, enabled=False):
        exact = torch.promote_types(torch.promote_types(image_ND.dtype, text_ND.dtype), torch.float32)
        return (scale * image_ND.to(exact)) @ text_ND.to(exact).T


def nce_binary(positive_N: Tensor, noise_M: Tensor) -> Tensor:
    """Noise-contrastive estimation in its binary form (Gutmann and Hyvarinen 2010).

    Args:
        positive_N: logits of samples of the data.
        noise_M: logits of samples of the noise.

    Returns:
        -sum log sigmoid(positive) - sum log(1 - sigmoid(noise)), a sum over both.
    """
    return F.softplus(-positive_N).sum() + F.softplus(noise_M).sum()


def information_bound(loss: Tensor, pairs: int) -> Tensor:
    """The lower bound on mutual information that an InfoNCE loss gives (van den Oord et al. 2018): ln N - loss, nats.

    It cannot exceed ln N, however much the two sides share.
    """
    return torch.log(torch.tensor(float(pairs))) - loss
