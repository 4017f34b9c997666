"""Contrastive objectives as pure functions of embeddings; inputs are used as given, so normalise them before.

The products of all pairs are taken in fp32 at least, also of bf16 embeddings and under autocast: at a scale of 100, the
8 bits of a bf16 logit leave steps of half a nat. They are taken in strips, so that memory is linear in the batch.

N pairs, M texts or negatives, K negatives, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.objectives.log_sum_exp import pair_normalisers
from diptych.objectives.pair_sum import pair_sum
from diptych.objectives.strips import with_negatives

CLIP_SCALE_INIT = math.log(1 / 0.07)
"""CLIP's log scale at initialisation (arXiv 2103.00020, section 2.4): 2.6593."""
CLIP_SCALE_MAX = math.log(100.0)
"""CLIP clips the scale at 100, "to prevent training instability" (the same section)."""
SIGLIP_SCALE_INIT = math.log(10.0)
"""SigLIP's log scale at initialisation (arXiv 2303.15343, algorithm 1)."""
SIGLIP_BIAS_INIT = -10.0
"""SigLIP's bias at initialisation: almost every pair of a batch is a negative (the same algorithm)."""


def info_nce(
    image_ND: Tensor,
    text_ND: Tensor,
    scale: Tensor,
    negative_MD: Tensor | None = None,
    wanted_M: Tensor | None = None,
) -> Tensor:
    """CLIP's symmetric InfoNCE (arXiv 2103.00020, figure 3): row i of one side belongs to row i of the other.

    Args:
        image_ND, text_ND: embeddings.
        scale: multiplies the products; a scalar, already exponentiated.
        negative_MD: texts that belong to no image; every image has them among its candidates (NegCLIP, arXiv
            2210.01936), no text does.
        wanted_M: bool; False for a row of `negative_MD` that does not count.

    Returns:
        the mean over both directions and all rows, in nats; ln N for embeddings that say nothing.
    """
    assert len(image_ND) == len(text_ND), f"{len(image_ND)} images cannot be paired with {len(text_ND)} texts"
    found = pair_normalisers(image_ND, with_negatives(text_ND, negative_MD, wanted_M), scale)
    return (found.row_N + found.column_N - 2 * found.matching_N).mean() / 2


def sigmoid_loss(
    image_ND: Tensor,
    text_MD: Tensor,
    scale: Tensor,
    bias: Tensor,
    own: bool = True,
    negative_KD: Tensor | None = None,
    wanted_K: Tensor | None = None,
) -> Tensor:
    """SigLIP's pairwise loss (arXiv 2303.15343, equation 1): every pair is a yes or no question of its own.

    Args:
        image_ND, text_MD: embeddings.
        scale, bias: scalars; a logit is scale * product + bias.
        own: whether text i belongs to image i, so that M = N; otherwise no text belongs to any image, as for a block
            of texts of another process. Blocks of texts add up to the loss over all of them.
        negative_KD: texts that belong to no image, whatever `own` says.
        wanted_K: bool; False for a row of `negative_KD` that does not count.

    Returns:
        the sum over all N x (M + K) pairs divided by N (not by their number), in nats.
    """
    assert not own or len(image_ND) == len(text_MD), f"{len(image_ND)} images cannot own {len(text_MD)} texts"
    columns_MD = with_negatives(text_MD, negative_KD, wanted_K)
    return pair_sum(image_ND, columns_MD, scale, bias, own) / len(image_ND)


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
