"""Texts of very different length in one batch, without computing on the padding.

B batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from diptych.distributed.sharding import is_sharded

WASTE = 0.3
"""The share of padding in a batch from which on it is cut into buckets."""


def in_length_buckets(
    encode: Callable[[Tensor, Tensor], Tensor], tokens_BT: Tensor, lengths_B: Tensor, buckets: int = 4
) -> Tensor:
    """encode(tokens_BT, lengths_B), with each text padded only to the longest of its bucket.

    A batch is sorted by length and cut where that leaves the least padding; the rows come back in their order. With
    captions of similar length it stays in one piece, because small matrix products cost more than a little padding.

    Args:
        encode: gives a row [B, D] a text that does not depend on padding.
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
    """Where to cut the sorted lengths: ends of equal shares, when padding would otherwise be above `WASTE`."""
    ordered = sorted(lengths)
    if sum(ordered) >= (1 - WASTE) * ordered[-1] * len(ordered):
        return [len(ordered)]
    pieces = min(buckets, len(ordered))
    return [round(len(ordered) * (piece + 1) / pieces) for piece in range(pieces)]
