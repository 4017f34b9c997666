"""Captions: each is a sentence that an independent reader finds true, over many scenes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from claims import NoSentence, holds, objects_in
from diptych.data.scenes.captions import alt_text, captions, counted, detailed, listed, plural, related, with_article
from diptych.data.scenes.draw import SceneConfig, draw_scene
from diptych.data.scenes.world import Scene, SceneObject

CROWDED = SceneConfig(objects=8, words=0.5)


def scene_of(*objects: tuple[str, str, str, int, int], background: str = "white", word: str = "") -> Scene:
    made = [SceneObject(c, s, size, row, column, 10, 10, 5) for c, s, size, row, column in objects]
    return Scene(tuple(made), background, word, 64)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


TWO = scene_of(("red", "circle", "large", 0, 0), ("orange", "star", "small", 1, 1), word="cat")


def test_the_captions_of_one_scene_word_for_word() -> None:
    said = captions(TWO, rng())
    assert (
        said[0] == "a large red circle in the top left and a small orange star in the centre on a white background "
        'with the word "cat"'
    )
    assert said[4] == "two objects: one circle and one star"
    assert sorted(objects_in(said[3])) == sorted(
        objects_in("an orange star in the centre and a red circle in the top left")
    )


def test_every_caption_is_true_of_its_scene() -> None:
    for index in range(800):
        for config in (SceneConfig(), CROWDED):
            scene = draw_scene(config, "train", index)
            said = captions(scene, rng(index))
            assert len(said) == 5
            for text in said:
                assert holds(text, scene), (text, scene)


def test_captions_differ_in_detail() -> None:
    for index in range(200):
        scene = draw_scene(CROWDED, "train", index)
        said = captions(scene, rng(index))
        claims = objects_in(said[0].rsplit(" on a ", 1)[0])
        assert all(one.size and one.cell for one in claims) and len(claims) == len(scene.objects)
        places = objects_in(said[3])
        assert all(one.cell and not one.size for one in places) and len(places) == len(scene.objects)
        if len(scene.objects) > 1 and len({(one.colour, one.shape) for one in scene.objects}) > 1:
            assert any(word in said[1] for word in ("left of", "right of", "above", "below"))


def test_every_relation_is_said() -> None:
    said: Counter[str] = Counter()
    for index in range(800):
        scene = draw_scene(SceneConfig(min_objects=2), "train", index)
        text = related(scene, rng(index))
        said.update(r for r in ("to the left of", "to the right of", "above", "below") if f" {r} " in text)
    assert all(100 < count < 400 for count in said.values()) and len(said) == 4, said


def test_the_reader_finds_false_what_is_false() -> None:
    for text in (
        "a large red circle in the top left and a small orange star in the centre on a black background",
        "a large red circle",
        "a red circle in the top left and a red circle in the top left",
        "a red circle in the top right",
        "a blue star",
        "a red circle to the right of an orange star",
        "an orange star above a red circle",
        "two objects: two circles",
        "three objects: one circle and one star",
    ):
        assert holds(text, TWO) == (text == "a large red circle"), text
    assert holds("a red circle above an orange star", TWO) and holds("a red circle to the left of an orange star", TWO)
    for words in ("red a circle", "a orange star", "a red circle a star", "a circle"):
        with pytest.raises(NoSentence):
            holds(words, TWO)


def test_alt_text_is_noisy() -> None:
    texts = [alt_text(TWO, 17, rng(seed)) for seed in range(400)]
    kinds = Counter(
        "file"
        if text == "IMG_00017.jpg"
        else "cut"
        if text.endswith(" ...")
        else "named"
        if "red circle" in text
        else "ad"
        for text in texts
    )
    assert set(kinds) == {"file", "cut", "named", "ad"} and min(kinds.values()) > 60, kinds
    assert all(len(text) < 60 for text in texts)


def test_words() -> None:
    assert [listed(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert [with_article(name) for name in ("orange star", "red star")] == ["an orange star", "a red star"]
    assert [plural("cross", 2), plural("star", 2), plural("star", 1)] == ["crosses", "stars", "star"]
    three = scene_of(*[("red", "cross", "large", 0, column) for column in range(3)])
    assert counted(three) == "three objects: three crosses"
    assert related(three, rng()) == "a red cross, a red cross and a red cross"
    corners = scene_of(("red", "ring", "large", 2, 0), ("pink", "star", "small", 0, 2))
    in_order = "a small pink star in the top right and a large red ring in the bottom left"
    assert detailed(corners) == detailed(replace(corners, objects=corners.objects[::-1])) == in_order
