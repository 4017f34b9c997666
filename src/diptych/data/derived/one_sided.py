"""Sources with one side left out, and which kinds of rows data can give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.data.batches.mixed_pairs import PAIRS, Kind, Masks

_LOOKED_AT = 200


class OneSided:
    """The pictures of a source, or its texts.

    Args:
        side: what is kept.
    """

    def __init__(self, source: Source, side: Literal["pictures", "texts"]) -> None:
        self._source, self._side = source, side
        self.name = f"{side} of {source.name}"

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        if self._side == "pictures":
            return replace(sample, texts=())
        return replace(sample, visuals=(), boxes=())

    def keys(self) -> Sequence[str]:
        return self._source.keys()

    def fingerprint(self) -> str:
        return f"{hash_to_int(self._source.fingerprint(), self._side):016x}"


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
