"""CM3's causal masking: parts of a document move to its end, so that a causal model writes them knowing both sides.

Aghajanyan et al. 2022, "CM3: A Causal Masked Multimodal Model of the Internet", arXiv 2201.07520; CM3Leon (Yu et al.
2023, arXiv 2309.02591) adds that no part crosses from one modality into another. A part is replaced by a sentinel, and
at the end stand the sentinel again, the part, and an end-of-part token:

    a b c d e   ->   a <mask:0> d e <mask:0> b c <end of part>
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from diptych.core.errors import DataError

_ATTEMPTS = 20
"""Tries to place a part where it neither overlaps another nor crosses a break."""


@dataclass(frozen=True)
class SpanTokens:
    """Which tokens stand for parts.

    Attributes:
        sentinels: one for each part that may move, in order.
        finish: after each part at the end.
        breaks: tokens that no part may hold: what stands around pictures, and around the document.
    """

    sentinels: tuple[int, ...]
    finish: int
    breaks: frozenset[int]


Span = tuple[int, int]
"""A part: its first token's place, and the place after its last."""


def drawn_spans(tokens: Sequence[int], kinds: SpanTokens, rng: np.random.Generator, expected: float) -> list[Span]:
    """Parts of a document, in order; none where the draw is zero, which leaves plain causal prediction.

    Args:
        expected: mean of the Poisson distribution of how many there are; clamped to the number of sentinels.
    """
    wanted = min(int(rng.poisson(expected)), len(kinds.sentinels))
    found: list[Span] = []
    for _ in range(wanted):
        for _ in range(_ATTEMPTS):
            begin, end = sorted(int(place) for place in rng.integers(0, len(tokens) + 1, 2))
            apart = all(end <= other[0] or begin >= other[1] for other in found)
            if begin < end and apart and not kinds.breaks.intersection(tokens[begin:end]):
                found.append((begin, end))
                break
    return sorted(found)


def masked(tokens: Sequence[int], spans: Sequence[Span], kinds: SpanTokens) -> list[int]:
    """The document with its parts moved to the end.

    Args:
        spans: in order, without overlap.
    """
    kept: list[int] = []
    moved: list[int] = []
    at = 0
    for sentinel, (begin, end) in zip(kinds.sentinels, spans, strict=False):
        kept += [*tokens[at:begin], sentinel]
        moved += [sentinel, *tokens[begin:end], kinds.finish]
        at = end
    return [*kept, *tokens[at:], *moved]


def unmasked(tokens: Sequence[int], kinds: SpanTokens) -> list[int]:
    """The document again; the inverse of `masked`.

    Raises:
        DataError: a part is not there, or has no end.
    """
    parts, at = _parts(tokens, kinds)
    whole: list[int] = []
    for token in tokens[:at]:
        if token in parts:
            whole += parts[token]
        else:
            whole.append(token)
    return whole


def _parts(tokens: Sequence[int], kinds: SpanTokens) -> tuple[dict[int, list[int]], int]:
    """Sentinel -> its part, and where the parts begin."""
    sentinels: Collection[int] = set(kinds.sentinels)
    seen: set[int] = set()
    first = len(tokens)
    for place, token in enumerate(tokens):
        if token in sentinels and token in seen:
            first = place
            break
        if token in sentinels:
            seen.add(token)
    parts: dict[int, list[int]] = {}
    rest = list(tokens[first:])
    while rest:
        sentinel = rest.pop(0)
        if sentinel not in seen or kinds.finish not in rest:
            raise DataError(f"token {sentinel} begins no part of this document, or its part has no end")
        end = rest.index(kinds.finish)
        parts[sentinel], rest = rest[:end], rest[end + 1 :]
    if missing := seen - parts.keys():
        raise DataError(f"the part of token {min(missing)} is not in this document")
    return parts, first
