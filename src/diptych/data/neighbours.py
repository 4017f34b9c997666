"""Retrieved documents: the nearest to a query, without near-duplicates of the query or of each other.

Yasunaga et al. 2022, "Retrieval-Augmented Multimodal Language Modeling", arXiv 2211.12561, section 3.1, and CM3Leon (Yu
et al. 2023, arXiv 2309.02591), section 2.1: relevance, then diversity by leaving out what is too close to the query or
to what was taken, and by dropping a share of the query's words.

Q queries, N documents of the memory, D width of the unit vectors, M neighbours, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diptych.core.errors import ConfigError

NOTHING = -1
"""In the place of a neighbour that there is not."""


@dataclass(frozen=True)
class NeighbourRules:
    """How neighbours are chosen.

    Attributes:
        most: M.
        below: cosine from which a document is the query, or another neighbour, over again.
        query_dropout: share of the query's words that are left out in training.
    """

    most: int = 2
    below: float = 0.9
    query_dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.most < 1 or not 0 < self.below <= 1 or not 0 <= self.query_dropout < 1:
            raise ConfigError(
                f"neighbours: most {self.most} must be at least 1, below {self.below} in (0, 1] and query_dropout "
                f"{self.query_dropout} in [0, 1)"
            )


def neighbours(queries_QD: Tensor, memory_ND: Tensor, allowed_QN: Tensor, rules: NeighbourRules) -> Tensor:
    """Places [Q, M] in the memory, the closest first; `NOTHING` where no more may be taken.

    Args:
        allowed_QN: False where a document may not be taken at all, as that of the query itself.
    """
    close_QN = queries_QD @ memory_ND.T
    open_QN = allowed_QN & (close_QN < rules.below)
    found = []
    for _ in range(rules.most):
        place_Q = close_QN.masked_fill(~open_QN, -torch.inf).argmax(1)
        found.append(torch.where(open_QN.any(1), place_Q, NOTHING))
        open_QN = open_QN & (memory_ND[place_Q] @ memory_ND.T < rules.below)
        open_QN = open_QN.scatter(1, place_Q[:, None], value=False)
    return torch.stack(found, dim=1)


def thinned(tokens: list[int], share: float, rng: np.random.Generator) -> list[int]:
    """A query without a share of its words; with at least one."""
    kept = [token for token, draw in zip(tokens, rng.random(len(tokens)), strict=True) if draw >= share]
    return kept or tokens[:1]
