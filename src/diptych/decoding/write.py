"""Tokens one after another: the likeliest, or drawn.

N rows that are being written, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from diptych.core.sampling import TextSampling
from diptych.decoding.decoder import Decoder, Grammar


@torch.inference_mode()
def write(
    decoder: Decoder, rooms: Sequence[int], sampling: TextSampling, ends: Collection[int], seeds: Sequence[int] = (),
    grammar: Grammar | None = None,
) -> list[list[int]]:  # fmt: skip
    """The tokens that each row goes on with, up to its first end token, which is left out.

    A row that has ended is dropped, so it costs nothing more.

    Args:
        decoder: has read the prompts.
        rooms: for how many tokens each row has room.
        ends: tokens that end a row.
        seeds: one a row, where tokens are drawn: each row has a generator of its own, so that it does not depend on
            what is written beside it.
        grammar: what may come next.
    """
    written: list[list[int]] = [[] for _ in rooms]
    open_rows = list(range(len(rooms)))
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    tokens_N: Tensor | None = None
    while open_rows:
        logits_NV = decoder.next_logits(tokens_N)
        if grammar is not None and (allowed_NV := grammar.allowed()) is not None:
            logits_NV = logits_NV.masked_fill(~allowed_NV.to(logits_NV.device), -torch.inf)
        tokens_N = choose(logits_NV, sampling, [draws[row] for row in open_rows] if draws else [])
        left = []
        for place, (row, token) in enumerate(zip(open_rows, tokens_N.tolist(), strict=True)):
            if token in ends:
                continue
            written[row].append(token)
            if len(written[row]) < min(sampling.max_tokens, rooms[row]):
                left.append(place)
        if len(left) < len(open_rows):
            open_rows = [open_rows[place] for place in left]
            left_M = torch.tensor(left, dtype=torch.int64, device=tokens_N.device)
            tokens_N = tokens_N[left_M]
            decoder.select(left_M)
            if grammar is not None:
                grammar.select(left_M)
        if grammar is not None:
            grammar.advance(tokens_N)
    return written


def choose(logits_NV: Tensor, sampling: TextSampling, draws: Sequence[torch.Generator]) -> Tensor:
    """One token [N] a row: the likeliest, or one drawn with the row's own generator."""
    if sampling.temperature == 0:
        return logits_NV.argmax(-1)
    assert len(draws) == len(logits_NV), "a generator for each row that is drawn"
    shares_NV = kept(logits_NV.float() / sampling.temperature, sampling.top_k, sampling.top_p).softmax(-1).cpu()
    tokens = [torch.multinomial(row, 1, generator=draw) for row, draw in zip(shares_NV, draws, strict=True)]
    return torch.cat(tokens).to(logits_NV.device)


def kept(logits_NV: Tensor, top_k: int, top_p: float) -> Tensor:
    """The logits with those left out (-inf) that are not among the `top_k` and not in the nucleus.

    Holtzman et al. 2020, arXiv 1904.09751: the nucleus is the smallest set of likeliest tokens whose shares add up to
    at least `top_p`; the likeliest is always in it.
    """
    if 0 < top_k < logits_NV.shape[-1]:
        kth_N1 = logits_NV.topk(top_k).values[:, -1:]
        logits_NV = logits_NV.masked_fill(logits_NV < kth_N1, -torch.inf)
    if top_p < 1:
        sorted_NV, order_NV = logits_NV.sort(descending=True)
        before_NV = sorted_NV.softmax(-1).cumsum(-1).roll(1, -1)
        before_NV[:, 0] = 0
        out_NV = torch.zeros_like(logits_NV, dtype=torch.bool).scatter(-1, order_NV, before_NV >= top_p)
        logits_NV = logits_NV.masked_fill(out_NV, -torch.inf)
    return logits_NV
