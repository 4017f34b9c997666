"""What can truly be said of a scene, in several degrees of detail, and how the web would label it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from diptych.data.scenes.world import Scene, SceneObject, relations

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
_OPENINGS = ("", "a picture of ", "there is ", "an image showing ")
_NOISE_WORDS = ("buy now", "free shipping", "stock photo", "hd wallpaper", "click here", "new arrival", "2 pcs", "sale")


def captions(scene: Scene, rng: np.random.Generator) -> tuple[str, ...]:
    """Five true captions, the most detailed first: people caption one picture in many ways."""
    order = [scene.objects[int(i)] for i in rng.permutation(len(scene.objects))]
    opening = _OPENINGS[int(rng.integers(len(_OPENINGS)))]
    return (
        f"{detailed(scene)} on a {scene.background} background{_word(scene)}",
        related(scene, rng),
        f"{opening}{listed([with_article(one.full_name) for one in order])}",
        listed([f"{with_article(one.name)} in the {one.place}" for one in order]),
        counted(scene),
    )


def detailed(scene: Scene) -> str:
    """Every object in reading order with its size and place."""
    order = sorted(scene.objects, key=lambda one: (one.row, one.column))
    return listed([f"{with_article(one.full_name)} in the {one.place}" for one in order])


def related(scene: Scene, rng: np.random.Generator) -> str:
    """One true relation; the list of objects where there is none."""
    found = relations(scene)
    if not found:
        return listed([with_article(one.name) for one in scene.objects])
    first, relation, second = found[int(rng.integers(len(found)))]
    return relation_caption(first, relation, second)


def relation_caption(first: SceneObject, relation: str, second: SceneObject) -> str:
    """ "a red circle to the left of a blue square"."""
    return f"{with_article(first.name)} {relation} {with_article(second.name)}"


def counted(scene: Scene) -> str:
    """How many there are of each shape: "three objects: two circles and one star"."""
    by_shape = Counter(one.shape for one in scene.objects)
    parts = [f"{_NUMBERS[n]} {plural(shape, n)}" for shape, n in sorted(by_shape.items())]
    total = len(scene.objects)
    return f"{_NUMBERS[total]} {plural('object', total)}: {listed(parts)}"


def alt_text(scene: Scene, index: int, rng: np.random.Generator) -> str:
    """Noisy text as it stands beside pictures on the web: a file name, an advertisement, a fragment."""
    kind = int(rng.integers(4))
    extra = _NOISE_WORDS[int(rng.integers(len(_NOISE_WORDS)))]
    if kind == 0:
        return f"IMG_{index:05d}.jpg"
    if kind == 1:
        return f"{scene.objects[0].name} {extra}"
    if kind == 2:
        words = detailed(scene).split()
        return " ".join(words[: max(2, len(words) // 3)]) + " ..."
    return extra


def _word(scene: Scene) -> str:
    return f' with the word "{scene.word}"' if scene.word else ""


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def with_article(name: str) -> str:
    """ "a red circle", "an orange star"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def plural(noun: str, count: int) -> str:
    """ "circle" or "circles"."""
    if count == 1:
        return noun
    return f"{noun}es" if noun.endswith(("s", "ss")) else f"{noun}s"


def number_word(count: int) -> str:
    """ "two" for 2."""
    return _NUMBERS[count]
