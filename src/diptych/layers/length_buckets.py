"""Texts of very different length in one batch, without computing on the padding.

B batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from diptych.distributed.sharding import is_sharded

PIECE = 200
"""What a piece costs besides its tokens, in tokens: weights are read and their gradients written once more, and small
products of matrices are slower. Measured on CPUs, forward and backward pass together."""
_NEVER = 1 << 40
"""The cost of what is no piece."""


def in_length_buckets(
    encode: Callable[[Tensor, Tensor], Tensor], tokens_BT: Tensor, lengths_B: Tensor, buckets: int = 4
) -> Tensor:
    """encode(tokens_BT, lengths_B), with each text padded only to the longest of its bucket.

    A batch is sorted by length and cut into as many pieces as cost least; the rows come back in their order. A small
    batch, or captions of similar length, stay in one piece, because pieces cost more than a little padding.

    Args:
        encode: gives a row [B, D] a text that does not depend on padding.
        tokens_BT: ids, or anything that begins with these axes: vectors [B, T, D].
        buckets: the most pieces to cut into.
    """
    lengths = lengths_B.tolist()
    cuts = bucket_ends(lengths, buckets)
    if len(cuts) == 1:
        return encode(tokens_BT[:, : max(lengths)], lengths_B)
    order_B = lengths_B.argsort(stable=True)
    ordered = sorted(lengths)
    rows, begin = [], 0
    for end in cuts:
        chosen = order_B[begin:end]
        rows.append(encode(tokens_BT[chosen, : ordered[end - 1]], lengths_B[chosen]))
        begin = end
    return torch.cat(rows)[order_B.argsort()]


def rows_by_length(lengths_B: Tensor, buckets: int) -> list[tuple[Tensor, int]]:
    """Rows of a batch in pieces of similar length: int64 indices, and the longest row of each; every row once.

    For what has more to take along than tokens. One piece, in order, where little would be gained, or of no rows.
    """
    lengths = lengths_B.tolist()
    cuts = bucket_ends(lengths, buckets) if lengths else [0]
    if len(cuts) == 1:
        return [(torch.arange(len(lengths), device=lengths_B.device), max(lengths, default=1))]
    order_B, ordered = lengths_B.argsort(stable=True), sorted(lengths)
    return [(order_B[begin:end], ordered[end - 1]) for begin, end in pairwise([0, *cuts])]


def most_buckets(tower: nn.Module) -> int:
    """How many pieces a batch may be cut into for this tower.

    One where it is sharded: the number of pieces depends on a process's own texts, and processes that made unlike
    numbers of passes would wait for one another for ever.
    """
    return 1 if is_sharded(tower) else 4


def bucket_ends(lengths: list[int], buckets: int) -> list[int]:
    """Where to cut the sorted lengths so that they cost least: tokens, padding among them, and the pieces besides.

    Equal lengths stay together. By dynamic programming over how many of the different lengths are in pieces already.
    """
    sizes, counts = np.unique(lengths, return_counts=True)
    ends = np.concatenate([[0], counts.cumsum()])
    # A piece from one end to a later one: its rows at the length of its longest.
    cost = (ends[None] - ends[:, None]) * np.concatenate([[0], sizes])[None] + PIECE
    cost = np.where(ends[None] > ends[:, None], cost, _NEVER)
    sums, sources = [cost[0]], [np.zeros(len(ends), np.int64)]
    for _ in range(buckets - 1):
        through = sums[-1][:, None] + cost
        sums.append(through.min(0))
        sources.append(through.argmin(0))
    cuts, at = [], len(ends) - 1
    for piece in range(int(np.argmin([of[-1] for of in sums])), -1, -1):
        cuts.append(int(ends[at]))
        at = int(sources[piece][at])
    return cuts[::-1]
