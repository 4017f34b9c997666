"""Masked prediction: heads run on the positions that are asked about, and on no others.

B batch, T tokens or patches, N predicted positions, D width, V vocabulary or codebook.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.losses import IGNORED


def masked_positions(hidden_BTD: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """What is to be predicted: hidden states [N, D] and labels [N], in the order of the batch; N may be 0.

    Args:
        labels_BT: int64, `IGNORED` where nothing is asked.
    """
    asked_BT = labels_BT != IGNORED
    return hidden_BTD[asked_BT], labels_BT[asked_BT]


def token_loss(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """The sum over positions of the cross-entropy in nats, in float32 at least; 0 of none, with a gradient path."""
    exact_NV = logits_NV.float() if logits_NV.dtype in (torch.bfloat16, torch.float16) else logits_NV
    return F.cross_entropy(exact_NV, labels_N, reduction="sum")
