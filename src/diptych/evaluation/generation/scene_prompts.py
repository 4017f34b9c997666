"""Captions of scenes as prompts, with what they say: what a picture of them must show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.data.scenes.captions import relation_caption
from diptych.data.scenes.recognise import Recognised
from diptych.data.scenes.world import Scene, SceneObject, relations
from diptych.evaluation.benchmark import Records

Caption = Literal["detailed", "related", "listed", "placed"]
_PLACE: dict[Caption, int] = {"detailed": 0, "related": 1, "listed": 2, "placed": 3}
"""Where each caption stands among the texts of a scene (data/scenes/captions.py)."""
_CAPTIONS = 5
_ONE_WAY = ("to the left of", "above")  # "b is to the right of a" says nothing more


@dataclass(frozen=True)
class ScenePrompt:
    """A prompt, and what it says.

    Attributes:
        objects: those that are named.
        relations: (first, relation, second) that are said or follow from the places that are said.
        counts: whether it says that there is nothing else.
    """

    key: str
    text: str
    objects: tuple[SceneObject, ...]
    relations: tuple[tuple[SceneObject, str, SceneObject], ...]
    counts: bool
    sample: Sample


def scene_prompts(samples: Iterable[Sample], caption: Caption, records: Records) -> list[ScenePrompt]:
    """The prompts of the samples; one that is no scene, or has no such caption, is recorded with the reason."""
    found = []
    for sample in samples:
        if "objects" not in sample.meta or len(sample.texts) != _CAPTIONS:
            records.fail(BadSample(sample.key, "no scene with all its captions"))
        elif (prompt := _prompt(sample, caption)) is None:
            records.fail(BadSample(sample.key, "no relation"))
        else:
            found.append(prompt)
    return found


def _prompt(sample: Sample, caption: Caption) -> ScenePrompt | None:
    objects = objects_of(sample.meta["objects"])
    text = sample.texts[_PLACE[caption]]
    true = relations(Scene(objects, "", "", 0))
    if caption == "related":
        said = [one for one in true if relation_caption(*one) == text]
        if not said:
            return None
        first, relation, second = said[0]
        return ScenePrompt(sample.key, text, (first, second), ((first, relation, second),), False, sample)
    placed = tuple(one for one in true if one[1] in _ONE_WAY) if caption != "listed" else ()
    return ScenePrompt(sample.key, text, objects, placed, True, sample)


def objects_of(plain: Iterable[dict[str, Any]]) -> tuple[SceneObject, ...]:
    """Objects out of the values that samples and records keep."""
    return tuple(SceneObject(**one) for one in plain)


def as_objects(seen: Iterable[Recognised]) -> tuple[SceneObject, ...]:
    """What was recognised, of which only the cell is known."""
    return tuple(SceneObject(one.colour, one.shape, one.size, one.row, one.column, 0, 0, 0) for one in seen)
