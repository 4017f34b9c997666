"""Attention pooling: a few learned queries look at all of a sequence.

Lee et al. 2019, "Set Transformer", arXiv 1810.00825 (pooling by attention), as CoCa's task-specific poolers use it.

B batch, S tokens, C their width, Q queries, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.layers.cross_attention import CrossAttention


class QueryPool(nn.Module):
    """Norms of queries and context, one cross-attention, no residual."""

    def __init__(self, width: int, context_width: int, heads: int, queries: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.queries_QD = nn.Parameter(torch.randn(queries, width))
        self.query_norm = nn.LayerNorm(width, eps=eps)
        self.context_norm = nn.LayerNorm(context_width, eps=eps)
        self.attention = CrossAttention(width, context_width, heads)

    def forward(self, x_BSC: Tensor) -> Tensor:
        """[B, Q, D]."""
        query_BQD = self.query_norm(self.queries_QD).expand(len(x_BSC), -1, -1)
        out: Tensor = self.attention(query_BQD, self.context_norm(x_BSC))
        return out
