"""Next-token prediction: the loss of tokens given those before them.

N positions, T tokens, B batch, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.core.losses import IGNORED

_LOGITS_AT_ONCE = 1 << 24


class NextTokenLoss(NamedTuple):
    """Sums over the positions that are asked about, in nats.

    Attributes:
        cross_entropy: of the true tokens.
        z: of log(Z) squared, Z the sum of exponentials of a position's logits.
    """

    cross_entropy: Tensor
    z: Tensor


def next_token_labels(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """What follows each token [B, T]; `IGNORED` at a row's last token and on its padding.

    Args:
        lengths_B: tokens that are not padding, which stands at the right.
    """
    labels_BT = F.pad(tokens_BT[:, 1:], (0, 1), value=IGNORED)
    places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    return labels_BT.masked_fill(places_T >= lengths_B[:, None] - 1, IGNORED)


def next_token_loss(
    states_BTD: Tensor, labels_BT: Tensor, logits: Callable[[Tensor], Tensor], with_z: bool = False
) -> NextTokenLoss:
    """The loss at the places that are asked about.

    The head runs on these places alone, a piece at a time, and is run again in the backward pass where there are
    several pieces: the logits of a large vocabulary are never in memory at once.

    Args:
        labels_BT: int64, the token that follows; `IGNORED` where nothing is asked.
        logits: states [N, D] -> [N, V].
        with_z: whether the second sum is wanted (PaLM, arXiv 2204.02311, section 5; Chameleon); else it is 0.
    """
    asked_BT = labels_BT != IGNORED
    states_ND, labels_N = states_BTD[asked_BT], labels_BT[asked_BT]

    def piece(some_ND: Tensor, some_N: Tensor) -> tuple[Tensor, Tensor]:
        rows = logits(some_ND)
        exact_NV = rows.float() if rows.dtype in (torch.bfloat16, torch.float16) else rows
        entropy = F.cross_entropy(exact_NV, some_N, reduction="sum")
        return entropy, exact_NV.logsumexp(-1).square().sum() if with_z else entropy.new_zeros(())

    size = max(1, _LOGITS_AT_ONCE // max(_vocabulary(logits, states_ND), 1))
    pieces = list(zip(torch.split(states_ND, size), torch.split(labels_N, size), strict=True))
    if len(pieces) == 1:
        return NextTokenLoss(*piece(*pieces[0]))
    sums = [checkpoint(piece, *one, use_reentrant=False) for one in pieces]
    return NextTokenLoss(*(torch.stack(parts).sum() for parts in zip(*sums, strict=True)))


@torch.no_grad()
def _vocabulary(logits: Callable[[Tensor], Tensor], states_ND: Tensor) -> int:
    """V, asked of a head without any row."""
    return logits(states_ND[:0]).shape[-1]


def token_log_probabilities(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """log p of each label [B, T] in float64; 0 where it is `IGNORED`."""
    asked_BT = labels_BT != IGNORED
    chances_BT = logits_BTV.double().log_softmax(-1).gather(-1, labels_BT.clamp(min=0)[..., None])[..., 0]
    return chances_BT.masked_fill(~asked_BT, 0.0)
