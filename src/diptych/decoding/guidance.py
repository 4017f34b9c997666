"""Two streams of one model as one decoder: with a condition and without.

N rows, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.decoding.decoder import Decoder


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance on logits: l = l_u + w (l_c - l_u).

    Gafni et al. 2022, "Make-A-Scene", arXiv 2203.13131, section 3.4. With w = 1 it is the condition's own distribution,
    with w = 0 that of no condition.
    """

    conditional: Decoder
    unconditional: Decoder
    weight: float

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        with_NV, without_NV = (one.next_logits(tokens_N) for one in (self.conditional, self.unconditional))
        return without_NV + self.weight * (with_NV - without_NV)

    def select(self, rows_M: Tensor) -> None:
        self.conditional.select(rows_M)
        self.unconditional.select(rows_M)


@dataclass(frozen=True)
class Contrasted:
    """Contrastive decoding CD-K: what the condition makes likelier, among what it finds likely.

    Yu et al. 2023, "CM3Leon", arXiv 2309.02591, section 3.2: tokens are kept whose probability is at least alpha times
    the k-th largest; those are scored by log p_c - log p_u. k = 1 is the rule of Li et al. 2022, arXiv 2210.15097.
    """

    conditional: Decoder
    unconditional: Decoder
    alpha: float
    k: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1 or self.k < 1:
            raise ConfigError(f"alpha {self.alpha} must be above 0 and up to 1, and k {self.k} at least 1")

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        with_NV = self.conditional.next_logits(tokens_N).log_softmax(-1)
        without_NV = self.unconditional.next_logits(tokens_N).log_softmax(-1)
        kth_N1 = with_NV.topk(min(self.k, with_NV.shape[-1])).values[:, -1:]
        return (with_NV - without_NV).masked_fill(with_NV < kth_N1 + math.log(self.alpha), -torch.inf)

    def select(self, rows_M: Tensor) -> None:
        self.conditional.select(rows_M)
        self.unconditional.select(rows_M)


def guided(conditional: Decoder, unconditional: Decoder | None, weight: float) -> Decoder:
    """Guidance, without the pass that its weight does not need.

    Args:
        unconditional: None where there is none, which a weight of 1 alone can do without.
    """
    if weight == 1 or unconditional is None:
        assert weight == 1, "guidance of another weight than 1 needs the stream without a condition"
        return conditional
    return unconditional if weight == 0 else Guided(conditional, unconditional, weight)
