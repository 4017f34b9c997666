"""What a scene is made of: objects with colour, shape, size and place, a background, perhaps a written word.

A scene is known completely; everything that is said or asked about it is derived from these values.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 90, 220),
    "yellow": (240, 205, 40),
    "purple": (150, 60, 190),
    "orange": (245, 135, 30),
    "cyan": (40, 195, 210),
    "pink": (245, 130, 185),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "star")
SIZES = ("small", "large")
PLAIN = ("white", "black", "grey")
BACKGROUNDS = (*PLAIN, "striped", "checked", "dotted")
WORDS = ("cat", "sun", "map", "tea", "sky", "box", "ice", "fog")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
GRID = 3


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object.

    Attributes:
        row, column: of its cell in the 3 x 3 grid; relations compare these.
        y, x: centre in pixels; in its cell, with some jitter.
        radius: half its height in pixels.
    """

    colour: str
    shape: str
    size: str
    row: int
    column: int
    y: int
    x: int
    radius: int

    @property
    def name(self) -> str:
        """As captions call it: "red circle"."""
        return f"{self.colour} {self.shape}"

    @property
    def full_name(self) -> str:
        """With its size: "large red circle"."""
        return f"{self.size} {self.colour} {self.shape}"

    @property
    def place(self) -> str:
        """Its cell in words: "top left", "middle centre" as "centre"."""
        row, column = ROWS[self.row], COLUMNS[self.column]
        if (row, column) == ("middle", "centre"):
            return "centre"
        return f"{row} {column}"


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture before it is drawn.

    Attributes:
        side: of the square picture in pixels.
        word: written along the bottom; "" for none.
    """

    objects: tuple[SceneObject, ...]
    background: str
    word: str
    side: int


RELATIONS = ("to the left of", "to the right of", "above", "below")
OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}


def holds(relation: str, first: SceneObject, second: SceneObject) -> bool:
    """Whether a relation is true of two objects, by their cells."""
    if relation == "to the left of":
        return first.column < second.column
    if relation == "to the right of":
        return first.column > second.column
    if relation == "above":
        return first.row < second.row
    assert relation == "below", relation
    return first.row > second.row


def relations(scene: Scene) -> list[tuple[SceneObject, str, SceneObject]]:
    """Every true (first, relation, second) of two objects that differ in name, each pair in both directions."""
    found = []
    for a, b in combinations(scene.objects, 2):
        for first, second in ((a, b), (b, a)):
            if first.name != second.name:
                found += [(first, relation, second) for relation in RELATIONS if holds(relation, first, second)]
    return found


def names(scene: Scene) -> set[str]:
    """The colour-and-shape names that are in the scene."""
    return {one.name for one in scene.objects}


def combination(scene: Scene) -> str:
    """What splits hold out: the set of colour-and-shape pairs; for a lone object its size and cell too.

    Two scenes of one combination lie in the same split always, so no picture of test shows a combination of train.
    """
    if len(scene.objects) == 1:
        (one,) = scene.objects
        return f"{one.full_name} {one.place}"
    return " + ".join(sorted(names(scene)))
