"""Which objects a caption names: words, their plurals and their synonyms, names of several words first.

The rules of CHAIR (Rohrbach et al. 2018, arXiv 1809.02156): small letters, singular, a "hot dog" is no dog, a "baby
elephant" no person, a "toilet seat" no chair. The singular is by rules of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose", "oxen": "ox",
    "feet": "foot", "knives": "knife", "wives": "wife", "wolves": "wolf", "calves": "calf", "loaves": "loaf",
    "leaves": "leaf", "shelves": "shelf", "halves": "half", "buses": "bus", "people": "person",
    "teeth": "tooth", "lenses": "lens",
}  # fmt: skip
_ANIMALS = (
    "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub",
)  # fmt: skip
_QUALIFIED = {"baby": _ANIMALS, "adult": _ANIMALS, "passenger": ("jet", "train")}
"""What comes before a noun and is no person then."""


def singular(word: str) -> str:
    """ "dogs" -> "dog", "benches" -> "bench", "berries" -> "berry"; what is no plural stays."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")):
        return word[:-2]
    if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


class Vocabulary:
    """The objects that are looked for.

    Args:
        names: object -> every name that it goes by, its own not necessarily among them.
    """

    def __init__(self, names: Mapping[str, Iterable[str]]) -> None:
        self._object: dict[tuple[str, ...], str] = {}  # "" for what looks like an object and is none
        for thing, synonyms in names.items():
            for name in (thing, *synonyms):
                self._object[tuple(name.lower().split())] = thing
        for qualifier, nouns in _QUALIFIED.items():
            if (qualifier,) in self._object:
                self._object |= {(qualifier, noun): self._object.get((noun,), "") for noun in nouns}
        if ("toilet",) in self._object:
            self._object["toilet", "seat"] = self._object["toilet",]
        self._longest = max(map(len, self._object), default=0)

    def of(self, name: str) -> str | None:
        """The object of a name; None where it is not looked for."""
        found = self.mentions(name)
        return found[0] if len(found) == 1 else None

    def mentions(self, caption: str) -> list[str]:
        """The object of every mention, in order."""
        words = _WORD.findall(caption.lower())
        found, at = [], 0
        while at < len(words):
            length, thing = self._at(words[at : at + self._longest])
            if thing:
                found.append((words[at], thing))
            at += length
        return [thing for word, thing in found if not (word in ("seat", "seats") and "toilet" in words)]

    def _at(self, words: Sequence[str]) -> tuple[int, str]:
        """How many words the longest name at the beginning has, and its object: 1 and "" where there is none."""
        for length in range(len(words), 0, -1):
            said = tuple(words[:length])
            for form in (said, (*said[:-1], singular(said[-1])), tuple(map(singular, said))):
                if form in self._object:
                    return length, self._object[form]
        return 1, ""


def read_synonyms(text: str) -> dict[str, list[str]]:
    """CHAIR's file: an object a line, its name first, then its synonyms, parted by commas."""
    rows = [[name.strip() for name in line.split(",") if name.strip()] for line in text.splitlines()]
    return {row[0]: row for row in rows if row}
