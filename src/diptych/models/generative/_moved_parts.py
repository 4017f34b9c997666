"""A pair as a document some of whose parts are moved to its end, all drawn by the sample's seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diptych.core.seeding import hash_to_int, unit_interval
from diptych.data.words.causal_masking import SpanTokens, drawn_spans, masked
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.generative._document_layout import Layout
from diptych.models.generative._prompts import start_of


@dataclass(frozen=True)
class MovedParts:
    """How often what is moved.

    Attributes:
        spans: parts that are moved, in the mean.
        image_first: share of the pairs whose picture stands before its text.
        drop: share of the pairs whose whole text is moved.
    """

    spans: float
    image_first: float
    drop: float

    def document(self, picture: list[int], said: list[int], end: int, kinds: SpanTokens, seed: int) -> list[int]:
        """The tokens of a pair, up to its last moved part.

        Args:
            end: the token after the pair.
        """
        first = unit_interval("picture first", seed) < self.image_first
        row = [*(picture + said if first else said + picture), end]
        if untold(seed, self.drop):
            begin = len(picture) if first else 0
            return masked(row, [(begin, begin + len(said))], kinds)
        return self.moved(row, kinds, seed)

    def moved(self, row: list[int], kinds: SpanTokens, seed: int) -> list[int]:
        """A document with some parts moved."""
        return masked(row, drawn_spans(row, kinds, draws("moved parts", seed), self.spans), kinds)


def untold(seed: int, drop: float) -> bool:
    """Whether a pair's whole text is moved."""
    return unit_interval("no text", seed) < drop


def draws(purpose: str, seed: int) -> np.random.Generator:
    """The random numbers of one sample for one purpose."""
    return np.random.Generator(np.random.PCG64(hash_to_int(purpose, seed)))


def span_tokens(layout: Layout, words: Tokenizer) -> SpanTokens:
    """The tokens that stand for moved parts, and those that no part may hold."""
    sentinels = tuple(layout.sentinel(number) for number in range(layout.sentinels))
    breaks = {start_of(words), words.end_id, layout.begin, layout.finish}
    return SpanTokens(sentinels, layout.end_of_span, frozenset(breaks))
