"""The hinge game of a generator and a discriminator of patches, and the weight that VQGAN gives it.

Hinge: Lim and Ye 2017, "Geometric GAN", arXiv 1705.02894. Weight: Esser et al. 2020, "Taming Transformers for
High-Resolution Image Synthesis" (VQGAN), arXiv 2012.09841, equation 7, with the numbers of the released code: the
gradient of the generator's last layer decides, so that the game never pulls harder than the reconstruction.

B batch, h rows and w columns of patches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.distributed.gather import sum_over_ranks

SMALLEST_GRADIENT = 1e-4
LARGEST_WEIGHT = 1e4


def discriminator_hinge(real_B1hw: Tensor, made_B1hw: Tensor) -> Tensor:
    """[B]: half of max(0, 1 - real) + max(0, 1 + made), averaged over patches; 1 where all logits are 0.

    Args:
        real_B1hw, made_B1hw: logits, higher for what looks real.
    """
    both = F.relu(1 - real_B1hw).flatten(1).mean(1) + F.relu(1 + made_B1hw).flatten(1).mean(1)
    return 0.5 * both


def generator_hinge(made_B1hw: Tensor) -> Tensor:
    """[B]: minus the mean logit of what was made."""
    return -made_B1hw.flatten(1).mean(1)


def adaptive_weight(reconstruction: Tensor, game: Tensor, pictures: int, last: Tensor) -> Tensor:
    """|gradient of the reconstruction| / (|gradient of the game| + 1e-4), in [0, 1e4]; a constant.

    Both gradients are those of the means over the pictures of all processes; every process must call it, and gets the
    same number. A batch that is cut into micro-batches would get a number for each: a task that uses it is not
    divisible.

    Args:
        reconstruction, game: sums over this process's pictures; their graphs are kept.
        pictures: how many those are.
        last: the weight of the generator's last layer, in both graphs.
    """
    gradients = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (reconstruction, game)]
    everyone = sum_over_ranks(torch.tensor(float(pictures), dtype=torch.float64, device=last.device)).clamp(min=1)
    of_reconstruction, of_game = (sum_over_ranks(gradient).double().norm() / everyone for gradient in gradients)
    weight: Tensor = of_reconstruction / (of_game + SMALLEST_GRADIENT)
    return weight.clamp(0, LARGEST_WEIGHT).to(last.dtype)
