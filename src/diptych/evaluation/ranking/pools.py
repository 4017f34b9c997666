"""What is ranked among what: pictures by a hash of their keys, and so many captions of each.

A model that looks at every pair needs a small pool; for a fair table every model gets the same. A pool depends on the
data and the seed alone, never on the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.evaluation.ranking.candidates import seeded_pool


def pool_of(source: Source, pictures: int, captions: int, seed: int) -> Source:
    """At most so many pictures of a source, each with its first captions.

    Args:
        captions: of each picture; 0 for all.
    """
    pool = seeded_pool(source, pictures, seed)
    return FirstCaptions(pool, captions) if captions else pool


class FirstCaptions:
    """A source whose samples say less: the first captions of each that say something."""

    def __init__(self, source: Source, captions: int) -> None:
        self._source, self._captions = source, captions
        self.name = source.name

    def __len__(self) -> int:
        return len(self._source)

    def keys(self) -> Sequence[str]:
        return self._source.keys()

    def fingerprint(self) -> str:
        return f"{self._source.fingerprint()}-{self._captions}"

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        return replace(sample, texts=tuple(text for text in sample.texts if text.strip())[: self._captions])
