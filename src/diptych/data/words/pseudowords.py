"""Pseudowords: two syllables of a consonant and a vowel, in two disjoint shares for training and test."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Literal

import numpy as np

from diptych.core.errors import ConfigError
from diptych.core.seeding import unit_interval

Share = Literal["train", "test"]
_CONSONANTS, _VOWELS = "bdfgklmnprstvwz", "aeiou"
_TEST = 0.2


@cache
def pseudowords(share: Share) -> tuple[str, ...]:
    """All of a share, in order of the alphabet: "baba", "babe" ..."""
    syllables = [f"{consonant}{vowel}" for consonant, vowel in product(_CONSONANTS, _VOWELS)]
    words = (f"{first}{second}" for first, second in product(syllables, syllables))
    return tuple(word for word in words if (unit_interval("invented word", word) < _TEST) == (share == "test"))


def draw_pseudowords(share: Share, count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Some of a share, no two of which begin alike.

    Raises:
        ConfigError: more than there are first letters.
    """
    if not 1 <= count <= len(_CONSONANTS):
        raise ConfigError(f"{count} invented words that begin differently: there are 1 to {len(_CONSONANTS)}")
    found = []
    for letter in rng.permutation(list(_CONSONANTS))[:count].tolist():
        own = [word for word in pseudowords(share) if word[0] == letter]
        found.append(own[int(rng.integers(len(own)))])
    return tuple(found)
