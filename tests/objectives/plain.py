"""The losses over all pairs in their plain form, which holds the whole matrix: what the strips are compared with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def plain_info_nce(image_ND: Tensor, text_ND: Tensor, scale: Tensor, negative_MD: Tensor | None = None) -> Tensor:
    rows = torch.arange(len(image_ND))
    candidates = text_ND if negative_MD is None else torch.cat([text_ND, negative_MD])
    of_images = F.cross_entropy(scale * image_ND @ candidates.T, rows)
    return (of_images + F.cross_entropy(scale * text_ND @ image_ND.T, rows)) / 2


def plain_sigmoid(
    image_ND: Tensor,
    text_MD: Tensor,
    scale: Tensor,
    bias: Tensor,
    own: bool = True,
    negative_KD: Tensor | None = None,
) -> Tensor:
    texts = text_MD if negative_KD is None else torch.cat([text_MD, negative_KD])
    sign = -torch.ones(len(image_ND), len(texts), dtype=image_ND.dtype)
    if own:
        sign.fill_diagonal_(1)
    return -F.logsigmoid(sign * (scale * image_ND @ texts.T + bias)).sum() / len(image_ND)


def plain_multi_positive(
    anchor_ND: Tensor,
    candidate_MD: Tensor,
    scale: Tensor,
    anchor_labels_N: Tensor,
    candidate_labels_M: Tensor,
    skip_self: bool = False,
) -> Tensor:
    """Cross-entropy between p and q, with both written down."""
    logits_NM = scale * anchor_ND @ candidate_MD.T
    same_NM = anchor_labels_N[:, None] == candidate_labels_M
    if skip_self:
        logits_NM = logits_NM.masked_fill(torch.eye(*logits_NM.shape, dtype=torch.bool), -1e9)
        same_NM = same_NM & ~torch.eye(*logits_NM.shape, dtype=torch.bool)
    has = same_NM.any(1)
    p_NM = same_NM[has].to(logits_NM) / same_NM[has].sum(1, keepdim=True)
    return -(p_NM * logits_NM[has].log_softmax(1)).sum(1).mean()
