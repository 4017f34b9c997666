"""Which kinds of rows (pairs, pictures alone, texts alone) data can give."""

from __future__ import annotations

from diptych.core.processor import BadSample
from diptych.core.source import Source
from diptych.data.batches.mixed_pairs import PAIRS, Kind, Masks

_LOOKED_AT = 200


def kinds_in(source: Source, masks: Masks) -> frozenset[Kind]:
    """Which kinds of rows the data give under these masks, by a few hundred samples spread over them."""
    step = max(len(source) // _LOOKED_AT, 1)
    found: set[Kind] = set()
    for index in range(0, len(source), step):
        try:
            sample = source[index]
        except BadSample:
            continue
        if sample.visuals and sample.texts:
            found |= _made_of_a_pair(masks)
        elif sample.visuals:
            found.add(Kind.PICTURE)
        elif sample.texts:
            found.add(Kind.TEXT)
    return frozenset(found)


def _made_of_a_pair(masks: Masks) -> set[Kind]:
    pictures, texts = masks.alone
    made = {kind for kind, share in ((Kind.PICTURE, pictures), (Kind.TEXT, texts)) if share}
    if pictures + texts < 1:
        made |= set(PAIRS) if masks.mismatched else {Kind.MATCHED}
    return made
