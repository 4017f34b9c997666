"""How far a picture shows what a prompt says: objects, their colours, their relations, their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from diptych.core.visual import Image
from diptych.data.pixels.decode import decode
from diptych.data.scenes.recognise import recognise
from diptych.data.scenes.world import SceneObject, holds
from diptych.evaluation.derangement import Derangement
from diptych.evaluation.generation.scene_prompts import ScenePrompt, as_objects

KINDS = ("object", "colour", "relation", "count", "all")
OTHERS = 20
"""Of how many other prompts the pictures are that give chance."""

Objects = Sequence[SceneObject]


def objects_seen(image: Image) -> tuple[SceneObject, ...]:
    """What the scenes' own recogniser finds in a picture; nothing where there is nothing that it knows."""
    return as_objects(recognise(decode(image, image.name)))


def agreement(prompt: ScenePrompt, seen: Objects) -> dict[str, float]:
    """Kind -> share of what the prompt says that is in the picture.

    object: of its objects, those of whose shape there is one for each. colour: the same of shape and colour together.
    relation: of its relations, those that hold of two objects of these names. count: whether there are as many objects.
    all: whether all of this is right. What the prompt says nothing of is left out.
    """
    said = prompt.objects
    values = {
        "object": _share(Counter(one.shape for one in said), Counter(one.shape for one in seen)),
        "colour": _share(Counter(one.name for one in said), Counter(one.name for one in seen)),
    }
    if prompt.relations:
        right = [related(first.name, relation, second.name, seen) for first, relation, second in prompt.relations]
        values["relation"] = sum(right) / len(right)
    if prompt.counts:
        values["count"] = float(len(seen) == len(said))
    return values | {"all": float(all(value == 1 for value in values.values()))}


def related(first: str, relation: str, second: str, seen: Objects) -> bool:
    """Whether a relation holds of any two objects of these names."""
    return any(holds(relation, a, b) for a in seen for b in seen if a is not b and (a.name, b.name) == (first, second))


def _share(said: Counter[str], seen: Counter[str]) -> float:
    return (said & seen).total() / said.total()


def by_chance(prompts: Sequence[ScenePrompt], seen: Sequence[Objects], seed: int) -> dict[str, float]:
    """Kind -> the mean agreement of each prompt with the pictures of up to `OTHERS` other prompts."""
    around = Derangement([prompt.key for prompt in prompts], seed)
    values: dict[str, list[float]] = {}
    for index, prompt in enumerate(prompts):
        for other in some_others(around, index, min(OTHERS, len(prompts) - 1)):
            for kind, value in agreement(prompt, seen[other]).items():
                values.setdefault(kind, []).append(value)
    return {kind: sum(found) / len(found) for kind, found in values.items()}


def some_others(around: Derangement, index: int, count: int) -> list[int]:
    """The positions of `count` different samples other than `index`, the next ones in the circle."""
    found: list[int] = []
    for _ in range(count):
        other = around.of(index, partial(_new, found))
        if other is None:
            break
        found.append(other)
    return found


def _new(found: Sequence[int], index: int) -> bool:
    return index not in found
