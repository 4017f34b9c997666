"""Questions: answers follow from the objects, and without the picture no answer is much better than another."""

from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest

from claims import COLOURS, NUMBERS, PLACES, SHAPES
from diptych.data.scenes.draw import SceneConfig, draw_scene
from diptych.data.scenes.questions import Question, questions
from diptych.data.scenes.world import WORDS, Scene

COUNT = 4000


@cache
def asked() -> list[tuple[Scene, list[Question]]]:
    config = SceneConfig(objects=4, words=0.5)
    scenes = [draw_scene(config, "train", index) for index in range(COUNT)]
    return [(scene, questions(scene, np.random.default_rng(index))) for index, scene in enumerate(scenes)]


def answer(question: str, scene: Scene) -> str:
    """The answer from the objects, read off the question's words alone; "?" where there is no single one."""
    text = question.removesuffix("?").split()
    if question == "how many objects are there?":
        return next(word for word, n in NUMBERS.items() if n == len(scene.objects))
    if text[:2] == ["is", "there"]:
        return "yes" if any([one.colour, one.shape] == text[3:] for one in scene.objects) else "no"
    if text[:2] == ["what", "colour"]:
        found = [one.colour for one in scene.objects if one.shape == text[-1]]
    elif text[:2] == ["what", "shape"]:
        found = [one.shape for one in scene.objects if one.colour == text[-2]]
    elif text[0] == "where":
        cells = [(one.row, one.column) for one in scene.objects if one.shape == text[-1]]
        found = [name for name, cell in PLACES.items() if cell in cells]
    else:
        assert question == "what is written in the picture?"
        found = [scene.word] if scene.word else []
    return found[0] if len(found) == 1 else "?"


def test_every_answer_is_right_and_among_its_choices() -> None:
    kinds: Counter[str] = Counter()
    for scene, questions_of_it in asked():
        for one in questions_of_it:
            kinds[str(one["kind"])] += 1
            assert one["answer"] == answer(str(one["question"]), scene), (one, scene)
            assert one["answer"] in one["choices"] and len(set(one["choices"])) == len(one["choices"])
    assert kinds["count"] == kinds["present"] == kinds["absent"] == COUNT
    assert min(kinds.values()) > COUNT / 3 and len(kinds) == 7, kinds


@pytest.mark.parametrize(
    ("kind", "answers"),
    [("colour", COLOURS.split("|")), ("shape", SHAPES.split("|")), ("place", list(PLACES)), ("word", list(WORDS))],
)
def test_no_answer_is_much_more_frequent_than_another(kind: str, answers: list[str]) -> None:
    given = Counter(str(one["answer"]) for _, found in asked() for one in found if one["kind"] == kind)
    total = given.total()
    assert set(given) == set(answers) and total > 1000
    share = 1 / len(answers)
    # The word's row is free of objects, so the bottom is rarer than the top by design.
    slack = 0.75 if kind == "place" else 0.35
    assert all(abs(count / total - share) < slack * share for count in given.values()), given
    for choices in (list(one["choices"]) for _, found in asked()[:50] for one in found if one["kind"] == kind):
        assert set(choices) == set(answers)


def test_the_counts_are_as_frequent_as_scenes_of_so_many_objects() -> None:
    given = Counter(str(found[0]["answer"]) for _, found in asked())
    assert set(given) == {"one", "two", "three", "four"}
    assert all(abs(count / COUNT - 0.25) < 0.05 for count in given.values()), given


def test_yes_and_no_are_said_equally_often_of_everything() -> None:
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for _, found in asked():
        for one in found:
            if one["kind"] in ("present", "absent"):
                said[str(one["question"])][str(one["answer"])] += 1
    total = sum(said.values(), Counter())
    assert total["yes"] == total["no"] == COUNT
    assert len(said) == 48
    blind = sum(max(answers.values()) for answers in said.values()) / (2 * COUNT)
    assert blind < 0.56, blind  # the best that words alone can do


def test_a_question_without_a_single_answer_is_not_asked() -> None:
    for scene, found in asked():
        shapes = Counter(one.shape for one in scene.objects)
        kinds = {str(one["kind"]) for one in found}
        assert ("colour" in kinds) == ("place" in kinds) == (1 in shapes.values())
        assert ("shape" in kinds) == (1 in Counter(one.colour for one in scene.objects).values())
        assert ("word" in kinds) == bool(scene.word)
