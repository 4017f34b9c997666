"""Hard negatives of plain captions, by rule: words of one closed class change places, or one gives way to another.

The rules know words, not grammar. They hold back where the result could still be true: of two words with no more than
"and" or "with" between them, either order says the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

ATTRIBUTES = [
    line.split()
    for line in (
        "red blue green yellow black white brown orange pink purple grey gray blond blonde tan golden silver",
        "big small large little tall short long tiny huge",
        "young old",
        "two three four five six seven eight",
        "wooden metal plastic stone brick grassy sandy snowy rocky concrete",
    )
]
OBJECTS = [
    line.split()
    for line in (
        "man woman boy girl child baby lady guy toddler",
        "men women boys girls children",
        "dog cat horse bird cow sheep elephant puppy bear",
        "dogs cats horses birds cows elephants puppies bears",
        "car bus truck bike bicycle motorcycle train boat plane",
        "ball frisbee hat shirt jacket table chair bench tree house building street beach water snow grass field",
    )
]
_TURNED = [
    ("left", "right"), ("above", "below"), ("over", "under"), ("inside", "outside"), ("up", "down"),
    ("upwards", "downwards"), ("upper", "lower"), ("top", "bottom"), ("into", "out of"), ("in front of", "behind"),
    ("before", "after"),
]  # fmt: skip
OPPOSITES = dict(_TURNED) | {two: one for one, two in _TURNED} | {"on": "under", "onto": "off", "beneath": "above"}
_JOINERS = frozenset(["and", "or", "with", "a", "an", "the", "beside", "near", "by", "next", "to", "some", "of"])
_WORD = re.compile(r"[A-Za-z']+")
_RELATION = re.compile(r"\b(" + "|".join(sorted(OPPOSITES, key=len, reverse=True)) + r")\b", re.IGNORECASE)
_ARTICLE = re.compile(r"\b([Aa])n?(?=\s+([A-Za-z]))")

Rule = Callable[[str, np.random.Generator], str | None]


def swap_attribute(caption: str, rng: np.random.Generator) -> str | None:
    """Two colours, sizes, ages, numbers or materials change places."""
    return _swapped(caption, ATTRIBUTES, rng)


def swap_object(caption: str, rng: np.random.Generator) -> str | None:
    """Two nouns change places."""
    return _swapped(caption, [[word for words in OBJECTS for word in words]], rng)


def replace_attribute(caption: str, rng: np.random.Generator) -> str | None:
    """An attribute gives way to another of its class."""
    return _replaced(caption, ATTRIBUTES, rng)


def replace_object(caption: str, rng: np.random.Generator) -> str | None:
    """A noun gives way to another of its class."""
    return _replaced(caption, OBJECTS, rng)


def swap_relation(caption: str, rng: np.random.Generator) -> str | None:
    """A word of place is turned into its opposite."""
    found = list(_RELATION.finditer(caption))
    if not found:
        return None
    match = found[int(rng.integers(len(found)))]
    return _with(caption, [(match, OPPOSITES[match[0].lower()])])


def order(caption: str, rng: np.random.Generator) -> str | None:
    """The words, shuffled."""
    words = caption.split()
    shuffled = [words[int(i)] for i in rng.permutation(len(words))]
    return " ".join(shuffled) if len(words) > 2 and shuffled != words else None


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (swap_attribute, swap_relation, swap_object, replace_attribute, replace_object, order)
}


def _swapped(caption: str, classes: Sequence[Sequence[str]], rng: np.random.Generator) -> str | None:
    words = list(_WORD.finditer(caption))
    pairs = [
        (a, b)
        for known in classes
        for i, a in enumerate(words)
        for j, b in enumerate(words[:i])
        if a[0].lower() in known and b[0].lower() in known and a[0].lower() != b[0].lower()
        if any(between[0].lower() not in _JOINERS for between in words[j + 1 : i])
    ]
    if not pairs:
        return None
    a, b = pairs[int(rng.integers(len(pairs)))]
    return _with(caption, [(a, b[0].lower()), (b, a[0].lower())])


def _replaced(caption: str, classes: Sequence[Sequence[str]], rng: np.random.Generator) -> str | None:
    said = {match[0].lower() for match in _WORD.finditer(caption)}
    found = [(match, known) for match in _WORD.finditer(caption) for known in classes if match[0].lower() in known]
    if not found:
        return None
    match, known = found[int(rng.integers(len(found)))]
    others = [word for word in known if word not in said]
    return _with(caption, [(match, others[int(rng.integers(len(others)))])]) if others else None


def _with(caption: str, changes: Sequence[tuple[re.Match[str], str]]) -> str:
    """The caption with words replaced, capitals where they were, and "a" or "an" as the next word wants it."""
    for match, word in sorted(changes, key=lambda change: -change[0].start()):
        word = word.capitalize() if match[0][0].isupper() else word
        caption = caption[: match.start()] + word + caption[match.end() :]
    return _ARTICLE.sub(lambda found: found[1] + ("n" if found[2].lower() in "aeiou" else ""), caption)
