"""Hard negatives: captions that share the words of a true one and are false of the picture (or are no sentence)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diptych.data.scenes.captions import listed, relation_caption, with_article
from diptych.data.scenes.world import COLOURS, OPPOSITE, SHAPES, Scene, holds, names, relations

Pair = dict[str, str]


def negatives(scene: Scene, rng: np.random.Generator) -> dict[str, Pair]:
    """kind -> {"true": ..., "false": ...}, for each kind that the scene allows.

    swap_attribute: two objects exchange their colours. swap_relation: the relation is turned round. swap_object: two
    objects change places in a relation. replace_attribute, replace_object: something that is not there. order: the
    true caption's words shuffled; it is ungrammatical rather than false.
    """
    found: dict[str, Pair] = {}
    plain = listed([with_article(one.name) for one in scene.objects])
    if swapped := swap_colours(scene):
        found["swap_attribute"] = {"true": plain, "false": listed([with_article(one.name) for one in swapped.objects])}
    if true := relations(scene):
        first, relation, second = true[int(rng.integers(len(true)))]
        said = relation_caption(first, relation, second)
        if not _said_of_any(scene, first.name, OPPOSITE[relation], second.name):
            found["swap_relation"] = {"true": said, "false": relation_caption(first, OPPOSITE[relation], second)}
        if not _said_of_any(scene, second.name, relation, first.name):
            found["swap_object"] = {"true": said, "false": relation_caption(second, relation, first)}
    found |= _replacements(scene, rng, plain)
    found["order"] = {"true": plain, "false": _shuffled(plain, len(scene.objects), rng)}
    return found


def _shuffled(plain: str, objects: int, rng: np.random.Generator) -> str:
    """The words in an order that names fewer objects: a list of other objects, or the same, would be a sentence."""
    words = plain.split()
    while True:
        order = [words[int(i)] for i in rng.permutation(len(words))]
        triples = zip(order, order[1:], order[2:], strict=False)
        if sum(a in ("a", "an") and b in COLOURS and c.rstrip(",") in SHAPES for a, b, c in triples) < objects:
            return " ".join(order)


def swap_colours(scene: Scene) -> Scene | None:
    """The scene with the colours of two objects exchanged, when that shows other objects than before."""
    for i, a in enumerate(scene.objects):
        for j, b in enumerate(scene.objects[:i]):
            if a.colour != b.colour and a.shape != b.shape:
                objects = list(scene.objects)
                objects[i], objects[j] = replace(a, colour=b.colour), replace(b, colour=a.colour)
                swapped = replace(scene, objects=tuple(objects))
                if not names(swapped) <= names(scene):
                    return swapped
    return None


def swap_places(scene: Scene) -> Scene | None:
    """The scene with the first two objects in each other's cells, when that changes what is true."""
    if len(scene.objects) < 2 or scene.objects[0].name == scene.objects[1].name:
        return None
    a, b = scene.objects[:2]
    moved = (
        replace(a, row=b.row, column=b.column, y=b.y, x=b.x),
        replace(b, row=a.row, column=a.column, y=a.y, x=a.x),
        *scene.objects[2:],
    )
    return replace(scene, objects=moved)


def absent(scene: Scene, rng: np.random.Generator, count: int = 3) -> list[str]:
    """Names of objects that are not in the scene, for probes of hallucination; some share a colour or a shape."""
    here = names(scene)
    everything = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    candidates = [name for name in everything if name not in here]
    return [candidates[int(i)] for i in rng.permutation(len(candidates))[:count]]


def _replacements(scene: Scene, rng: np.random.Generator, plain: str) -> dict[str, Pair]:
    """One object's colour or shape replaced by one that makes the caption false."""
    here, one = names(scene), scene.objects[0]
    rest = [other.name for other in scene.objects[1:]]
    found = {}
    options = {
        "replace_attribute": [f"{colour} {one.shape}" for colour in COLOURS],
        "replace_object": [f"{one.colour} {shape}" for shape in SHAPES],
    }
    for kind, candidates in options.items():
        false = [name for name in candidates if name not in here]
        if false:
            chosen = false[int(rng.integers(len(false)))]
            found[kind] = {"true": plain, "false": listed([with_article(name) for name in (chosen, *rest)])}
    return found


def _said_of_any(scene: Scene, first: str, relation: str, second: str) -> bool:
    """Whether a relation between two names is true of any two objects of these names."""
    return any(
        holds(relation, a, b)
        for a in scene.objects
        for b in scene.objects
        if a is not b and a.name == first and b.name == second
    )
