"""InfoNCE over rows of which only some are pairs that belong together (FLAVA).

N rows, D width.
"""

from __future__ import annotations

from torch import Tensor

from diptych.objectives.log_sum_exp import pair_normalisers


def gated_info_nce(image_ND: Tensor, text_ND: Tensor, scale: Tensor, pair_N: Tensor, matched_N: Tensor) -> Tensor:
    """CLIP's symmetric InfoNCE in which every pair is a candidate and only pairs that match are asked about.

    As in FLAVA's released code: a picture with an exchanged caption is a negative for other captions, and so is the
    caption for other pictures, but nothing is asked of either.

    Args:
        image_ND, text_ND: embeddings.
        scale: multiplies the products; a scalar, already exponentiated.
        pair_N: bool, False for rows that are no pair: they are not there.
        matched_N: bool, whose picture and text belong together; a subset of the pairs.

    Returns:
        the sum over matched rows of the mean of both directions, in nats; 0 where there are none, with a gradient path.
    """
    image_MD, text_MD, matched_M = image_ND[pair_N], text_ND[pair_N], matched_N[pair_N]
    if not len(image_MD):
        return (image_ND.sum() + text_ND.sum() + scale) * 0.0
    found = pair_normalisers(image_MD, text_MD, scale)
    loss_M = (found.row_N + found.column_N - 2 * found.matching_N) / 2
    return (loss_M * matched_M.to(loss_M.dtype)).sum()
