"""Hard negatives: the true caption is true, the false one false or no sentence, and they share their words."""

from collections import Counter

import numpy as np
import pytest

from claims import NoSentence, holds, objects_in
from diptych.data.scenes.draw import SceneConfig, draw_scene
from diptych.data.scenes.negatives import absent, negatives, swap_colours, swap_places
from diptych.data.scenes.world import Scene, SceneObject

CONFIG = SceneConfig(objects=5)
COUNT = 1500
KINDS = {"swap_attribute", "swap_relation", "swap_object", "replace_attribute", "replace_object", "order"}


def scenes() -> list[Scene]:
    return [draw_scene(CONFIG, "train", index) for index in range(COUNT)]


def words(text: str) -> Counter[str]:
    """The words without articles, which follow the next letter."""
    return Counter(word.strip(",") for word in text.split() if word not in ("a", "an"))


def test_true_captions_are_true_and_false_ones_false() -> None:
    found: Counter[str] = Counter()
    for index, scene in enumerate(scenes()):
        for kind, pair in negatives(scene, np.random.default_rng(index)).items():
            found[kind] += 1
            assert holds(pair["true"], scene), (kind, pair, scene)
            if kind == "order":
                with pytest.raises(NoSentence):
                    holds(pair["false"], scene)
            else:
                assert not holds(pair["false"], scene), (kind, pair, scene)
    assert set(found) == KINDS
    assert found["replace_attribute"] == found["replace_object"] == found["order"] == COUNT
    assert min(found.values()) > COUNT / 2, found


def test_false_captions_share_the_words_of_the_true_one() -> None:
    for index, scene in enumerate(scenes()):
        for kind, pair in negatives(scene, np.random.default_rng(index)).items():
            true, false = words(pair["true"]), words(pair["false"])
            if kind in ("swap_attribute", "swap_object", "order"):
                assert true == false, (kind, pair)
            elif kind == "swap_relation":
                assert (sum((true - false).values()) == 1 and {"left", "right"} & set(false)) or {
                    "above",
                    "below",
                } & set(false)
            else:
                assert sum((true - false).values()) == 1 == sum((false - true).values()), (kind, pair)


def test_order_keeps_even_the_articles_and_commas() -> None:
    for index, scene in enumerate(scenes()[:300]):
        pair = negatives(scene, np.random.default_rng(index))["order"]
        assert Counter(pair["true"].split()) == Counter(pair["false"].split()) and pair["true"] != pair["false"]


def test_swapping_colours_shows_something_that_was_not_there() -> None:
    for scene in scenes():
        swapped = swap_colours(scene)
        if swapped is None:
            continue
        before, after = (Counter((one.colour, one.shape) for one in each.objects) for each in (scene, swapped))
        assert before != after
        changed = [(a, b) for a, b in zip(scene.objects, swapped.objects, strict=True) if a != b]
        assert len(changed) == 2
        assert [a.shape for a, _ in changed] == [b.shape for _, b in changed]
        assert [a.colour for a, _ in changed] == [b.colour for _, b in changed[::-1]]
        assert [(a.row, a.column) for a, _ in changed] == [(b.row, b.column) for _, b in changed]


def test_a_swap_that_shows_only_what_is_there_is_none() -> None:
    named = [("red", "circle"), ("blue", "square"), ("blue", "circle"), ("red", "square")]
    objects = [SceneObject(colour, shape, "large", 0, 0, 9, 9, 5) for colour, shape in named]
    assert swap_colours(Scene(tuple(objects), "white", "", 64)) is None
    assert swap_colours(Scene(tuple(objects[:2]), "white", "", 64)) is not None


def test_swapping_places_moves_names_and_keeps_them() -> None:
    for scene in scenes():
        swapped = swap_places(scene)
        if swapped is None:
            assert len({(one.colour, one.shape) for one in scene.objects[:2]}) == 1
            continue
        (a, b), (c, d) = scene.objects[:2], swapped.objects[:2]
        assert (a.row, a.column, a.y, a.x) == (d.row, d.column, d.y, d.x)
        assert (b.row, b.column, b.y, b.x) == (c.row, c.column, c.y, c.x)
        assert (a.name, b.name) == (c.name, d.name)
        assert swapped.objects[2:] == scene.objects[2:]


def test_absent_objects_are_absent() -> None:
    asked: Counter[str] = Counter()
    for index, scene in enumerate(scenes()):
        found = absent(scene, np.random.default_rng(index))
        assert len(set(found)) == 3
        for name in found:
            assert not holds(f"a{'n' if name[0] == 'o' else ''} {name}", scene)
        asked.update(found)
    assert len(asked) == 48 and min(asked.values()) > 40, asked


def test_the_reader_takes_every_negative_that_is_a_sentence() -> None:
    pair = negatives(draw_scene(SceneConfig(min_objects=2), "test", 3), np.random.default_rng(0))
    assert len(objects_in(pair["swap_attribute"]["false"])) >= 2
