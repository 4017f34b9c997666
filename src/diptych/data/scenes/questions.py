"""Questions about a scene with their answers and choices."""

from __future__ import annotations

from collections import Counter

import numpy as np

from diptych.data.scenes.captions import number_word, with_article
from diptych.data.scenes.negatives import absent
from diptych.data.scenes.world import COLOURS, COLUMNS, ROWS, SHAPES, WORDS, Scene

Question = dict[str, str | list[str]]


def questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """One of each kind that the scene allows: colour, shape, count, presence, absence, place, word."""
    found = [_count(scene), _presence(scene), _absence(scene, rng)]
    by_shape = Counter(one.shape for one in scene.objects)
    by_colour = Counter(one.colour for one in scene.objects)
    for one in scene.objects:
        if by_shape[one.shape] == 1:
            found.append(_question("colour", f"what colour is the {one.shape}?", one.colour, list(COLOURS)))
            places = sorted({_place(row, column) for row in ROWS for column in COLUMNS})
            found.append(_question("place", f"where is the {one.shape}?", one.place, places))
            break
    for one in scene.objects:
        if by_colour[one.colour] == 1:
            found.append(_question("shape", f"what shape is the {one.colour} object?", one.shape, list(SHAPES)))
            break
    if scene.word:
        found.append(_question("word", "what is written in the picture?", scene.word, list(WORDS)))
    return found


def _question(kind: str, question: str, answer: str, choices: list[str]) -> Question:
    return {"kind": kind, "question": question, "answer": answer, "choices": choices}


def _count(scene: Scene) -> Question:
    """Of all objects: those of one shape are nearly always one, which would be answered without looking."""
    choices = [number_word(n) for n in range(1, 9)]
    return _question("count", "how many objects are there?", number_word(len(scene.objects)), choices)


def _presence(scene: Scene) -> Question:
    return _question("present", f"is there {with_article(scene.objects[0].name)}?", "yes", ["yes", "no"])


def _absence(scene: Scene, rng: np.random.Generator) -> Question:
    return _question("absent", f"is there {with_article(absent(scene, rng, 1)[0])}?", "no", ["yes", "no"])


def _place(row: str, column: str) -> str:
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"
