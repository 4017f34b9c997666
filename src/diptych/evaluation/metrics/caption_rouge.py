"""ROUGE-L of captions (Lin 2004), as the COCO server computes it: beta 1.2, the best precision and the best recall."""

from __future__ import annotations

from collections.abc import Sequence

BETA = 1.2


def rouge_l(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F of precision and recall of the longest common subsequence, each the best over the references.

    Args:
        candidate, references: tokens. A candidate without any gets 0.
    """
    if not candidate:
        return 0.0
    places: dict[str, int] = {}
    for place, token in enumerate(candidate):
        places[token] = places.get(token, 0) | 1 << place
    common = [_longest_common(places, len(candidate), reference) for reference in references]
    recall = max(length / max(len(reference), 1) for length, reference in zip(common, references, strict=True))
    precision = max(common) / len(candidate)
    if precision == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _longest_common(places: dict[str, int], length: int, reference: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table at a time in the bits of one number.

    (Hyyrö 2004, "Bit-parallel LCS-length computation revisited".) A zero bit is where the row goes up by one.

    Args:
        places: for each token of the candidate the bits of where it stands.
        length: of the candidate.
    """
    row = whole = (1 << length) - 1
    for token in reference:
        if here := row & places.get(token, 0):
            row = (row + here | row - here) & whole
    return length - row.bit_count()
