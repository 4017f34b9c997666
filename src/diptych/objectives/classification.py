"""Classification objectives as pure functions.

N samples, C classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy_sum(logits_NC: Tensor, classes_N: Tensor) -> Tensor:
    """The sum over samples of -log softmax(logits)[class], in nats; N ln C for logits that say nothing."""
    return F.cross_entropy(logits_NC.float() if logits_NC.dtype.itemsize < 4 else logits_NC, classes_N, reduction="sum")
