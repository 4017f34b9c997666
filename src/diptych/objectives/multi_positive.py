"""Contrastive losses in which a row may belong to several: StableRep's, which is SupCon's.

Tian et al. 2023, "StableRep", arXiv 2306.00984, section 3.1: the cross-entropy between the uniform distribution over
the candidates of a row's label and the softmax of its similarities; equal to L_out of Khosla et al. 2020, "Supervised
Contrastive Learning", arXiv 2004.11362, equation 2. As the logits are linear in the candidates, the mean over a row's
positives is one product with their mean vector: no matrix of all pairs is needed, and memory is linear in the batch.
Inputs are used as given, so normalise them before.

N anchors or pairs, M candidates, G labels, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.objectives.log_sum_exp import pair_normalisers, row_normalisers
from diptych.objectives.strips import exactly, with_negatives


def multi_positive(
    anchor_ND: Tensor,
    candidate_MD: Tensor,
    scale: Tensor,
    anchor_labels_N: Tensor,
    candidate_labels_M: Tensor,
    skip_self: bool = False,
) -> Tensor:
    """StableRep's loss in one direction.

    Args:
        anchor_ND, candidate_MD: embeddings.
        scale: multiplies the products; a scalar, one over the temperature.
        anchor_labels_N, candidate_labels_M: integers; equal labels belong together.
        skip_self: candidate i is anchor i itself, which is neither its positive nor its negative.

    Returns:
        the mean over the anchors that have a positive, in nats; 0 where none has.
    """
    anchor_ND, candidate_MD, scale = exactly(anchor_ND, candidate_MD, scale)
    mean_ND, count_N = _means_of_positives(candidate_MD, candidate_labels_M, anchor_labels_N, skip_self)
    loss_N = row_normalisers(anchor_ND, candidate_MD, scale, skip_self) - scale * (anchor_ND * mean_ND).sum(-1)
    has_positive_N = count_N > 0
    return torch.where(has_positive_N, loss_N, 0).sum() / has_positive_N.sum().clamp(min=1)


def multi_positive_pairs(
    image_ND: Tensor,
    text_ND: Tensor,
    labels_N: Tensor,
    scale: Tensor,
    negative_MD: Tensor | None = None,
    wanted_M: Tensor | None = None,
) -> Tensor:
    """InfoNCE in which rows of one label belong to each other: a text that occurs twice is no negative of itself.

    Args:
        image_ND, text_ND: embeddings; row i of one side belongs to row i of the other.
        labels_N: integers; equal labels belong together. With all different it is `info_nce`.
        scale, negative_MD, wanted_M: as in `info_nce`.

    Returns:
        the mean over both directions and all rows, in nats.
    """
    assert len(image_ND) == len(text_ND), f"{len(image_ND)} images cannot be paired with {len(text_ND)} texts"
    image_ND, text_ND, scale = exactly(image_ND, text_ND, scale)
    found = pair_normalisers(image_ND, with_negatives(text_ND, negative_MD, wanted_M), scale)
    mean_text_ND, _ = _means_of_positives(text_ND, labels_N, labels_N, skip_self=False)
    mean_image_ND, _ = _means_of_positives(image_ND, labels_N, labels_N, skip_self=False)
    matching_N = scale * ((image_ND * mean_text_ND).sum(-1) + (text_ND * mean_image_ND).sum(-1))
    return (found.row_N + found.column_N - matching_N).mean() / 2


def _means_of_positives(
    candidate_MD: Tensor, candidate_labels_M: Tensor, anchor_labels_N: Tensor, skip_self: bool
) -> tuple[Tensor, Tensor]:
    """The mean [N, D] of the candidates of each anchor's label, 0 where there is none, and their number [N]."""
    anchors = len(anchor_labels_N)
    both = torch.cat([anchor_labels_N, candidate_labels_M])
    labels_G, groups = both.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    of_anchors_N, of_candidates_M = groups[:anchors], groups[anchors:]
    sum_GD = candidate_MD.new_zeros(len(labels_G), candidate_MD.shape[1]).index_add(0, of_candidates_M, candidate_MD)
    count_N = of_candidates_M.bincount(minlength=len(labels_G))[of_anchors_N]
    sum_ND = sum_GD[of_anchors_N]
    if skip_self:
        sum_ND, count_N = sum_ND - candidate_MD[:anchors], count_N - 1
    return sum_ND / count_N.clamp(min=1)[:, None], count_N
