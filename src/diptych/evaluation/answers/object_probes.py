"""Questions about objects that are there and objects that are not: POPE's three ways to choose the latter.

Li et al. 2023, arXiv 2305.10355. Random: any absent object. Popular: the absent objects that most pictures have.
Adversarial: those that most often stand beside what the picture does have. The harder two ask for what a model would
expect without looking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.evaluation.captions.scene_truth import is_scene

RANDOM, POPULAR, ADVERSARIAL = "random", "popular", "adversarial"
WAYS = (RANDOM, POPULAR, ADVERSARIAL)


def objects_of(sample: Sample) -> frozenset[str]:
    """What a scene shows ("red circle"); of other data what the boxes are labelled with, in small letters."""
    if is_scene(sample.meta):
        return frozenset(sample.meta["present"])
    return frozenset(label for box in sample.boxes if (label := box.label.strip().lower()))


@dataclass(frozen=True)
class Probes:
    """What one picture is asked for.

    Attributes:
        present: objects that are there.
        absent: by way, as many that are not.
    """

    present: tuple[str, ...]
    absent: Mapping[str, tuple[str, ...]]


def probes_of(pictures: Mapping[str, frozenset[str]], each: int, seed: int) -> dict[str, Probes]:
    """The probes of every picture that has an object and lacks as many as it is asked for.

    Args:
        pictures: the objects of each by its key; what is popular, and what stands beside what, is counted in them.
        each: the most objects of a picture that are asked for; as many absent ones go with them.
    """
    popular = Counter(name for names in pictures.values() for name in names)
    beside = Counter(pair for names in pictures.values() for pair in permutations(sorted(names), 2))
    found = {}
    for key, names in pictures.items():
        absent = [name for name in popular if name not in names]
        count = min(each, len(names), len(absent))
        if count == 0:
            continue
        present = _drawn(names, count, "present", seed, key)
        found[key] = Probes(
            present,
            {
                RANDOM: _drawn(absent, count, "absent", seed, key),
                POPULAR: _first(absent, count, popular),
                ADVERSARIAL: _first(absent, count, {a: sum(beside[a, b] for b in names) for a in absent}),
            },
        )
    return found


def _drawn(names: Iterable[str], count: int, purpose: str, seed: int, key: str) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: hash_to_int(purpose, seed, key, name))[:count])


def _first(names: Sequence[str], count: int, weight: Mapping[str, int]) -> tuple[str, ...]:
    """Those of the highest weight; of equal ones the first by the alphabet."""
    return tuple(sorted(names, key=lambda name: (-weight[name], name))[:count])
