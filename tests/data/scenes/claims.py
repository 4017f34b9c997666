"""An independent reader of what is said of a scene: parses sentences into claims and holds them against the objects.

It knows nothing of how captions are made: only the vocabulary and the grammar that docs/scenes.md shows.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from diptych.data.scenes.world import Scene

COLOURS = "red|green|blue|yellow|purple|orange|cyan|pink"
SHAPES = "circle|square|triangle|cross|ring|star"
PLACES = {
    "top left": (0, 0), "top centre": (0, 1), "top right": (0, 2),
    "middle left": (1, 0), "centre": (1, 1), "middle right": (1, 2),
    "bottom left": (2, 0), "bottom centre": (2, 1), "bottom right": (2, 2),
}  # fmt: skip
NUMBERS = {word: n for n, word in enumerate(["no", "one", "two", "three", "four", "five", "six", "seven", "eight"])}
SINGULAR = {"crosses": "cross"} | {f"{name}s": name for name in ("circle", "square", "triangle", "ring", "star")}
_OBJECT = re.compile(
    rf"(?P<article>an?) (?:(?P<size>small|large) )?(?P<colour>{COLOURS}) (?P<shape>{SHAPES})"
    rf"(?: in the (?P<place>{'|'.join(sorted(PLACES, key=len, reverse=True))}))?"
)
_RELATION = re.compile(rf"an? ((?:{COLOURS}) (?:{SHAPES})) (to the left of|to the right of|above|below) an? (.+)")
_COUNTS = re.compile(r"(\w+) (objects?): (.+)")
_TAIL = re.compile(r' on a (\w+) background(?: with the word "(\w+)")?$')
_OPENING = re.compile(r"^(a picture of|there is|an image showing) ")


class Claim(NamedTuple):
    """An object that a sentence speaks of; None where it does not say."""

    colour: str
    shape: str
    size: str | None
    cell: tuple[int, int] | None


class NoSentence(ValueError):
    """Words that cannot be read."""


def holds(text: str, scene: Scene) -> bool:
    """Whether a sentence is true of a scene.

    Raises:
        NoSentence: it is none.
    """
    if found := _COUNTS.fullmatch(text):
        return _counts_hold(found[1], found[3], scene)
    if found := _RELATION.fullmatch(text):
        return any(
            _related(found[2], (a.row, a.column), (b.row, b.column))
            for a in scene.objects
            for b in scene.objects
            if a is not b and f"{a.colour} {a.shape}" == found[1] and f"{b.colour} {b.shape}" == found[3]
        )
    if tail := _TAIL.search(text):
        if (tail[1], tail[2] or "") != (scene.background, scene.word):
            return False
        text = text[: tail.start()]
    return _matched(objects_in(_OPENING.sub("", text)), scene)


def objects_in(text: str) -> list[Claim]:
    """The objects of "a red circle, a small blue star in the top left and ..."."""
    claims = []
    for part in re.split(r", | and ", text):
        found = _OBJECT.fullmatch(part)
        if found is None or (found["article"] == "an") != ((found["size"] or found["colour"])[0] in "aeiou"):
            raise NoSentence(f"{part!r} in {text!r}")
        place = found["place"]
        claims.append(Claim(found["colour"], found["shape"], found["size"], PLACES[place] if place else None))
    return claims


def _matched(claims: Sequence[Claim], scene: Scene) -> bool:
    """Whether every claim is true of an object of its own."""
    if not claims:
        return True
    first, rest = claims[0], claims[1:]
    for index, one in enumerate(scene.objects):
        fits = (first.colour, first.shape) == (one.colour, one.shape) and first.size in (None, one.size)
        if fits and first.cell in (None, (one.row, one.column)):
            others = scene.objects[:index] + scene.objects[index + 1 :]
            if _matched(rest, Scene(others, scene.background, scene.word, scene.side)):
                return True
    return False


def _related(relation: str, first: tuple[int, int], second: tuple[int, int]) -> bool:
    (row, column), (other_row, other_column) = first, second
    return {
        "to the left of": column < other_column,
        "to the right of": column > other_column,
        "above": row < other_row,
        "below": row > other_row,
    }[relation]


def _counts_hold(total: str, listed: str, scene: Scene) -> bool:
    said: Counter[str] = Counter()
    for part in re.split(r", | and ", listed):
        number, noun = part.split(" ")
        if (NUMBERS[number] == 1) != (noun not in SINGULAR):
            raise NoSentence(part)
        said[SINGULAR.get(noun, noun)] += NUMBERS[number]
    return said == Counter(one.shape for one in scene.objects) and NUMBERS[total] == len(scene.objects)
