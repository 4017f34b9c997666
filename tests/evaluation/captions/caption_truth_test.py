"""Coloured shapes that captions name, against scenes whose objects are known."""

from diptych.data.scenes.captions import plural
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.scenes.world import COLOURS, SHAPES
from diptych.evaluation.captions.scene_truth import is_scene, named_pairs, truth_of

META = {"objects": [{"colour": "red", "shape": "circle"}, {"colour": "blue", "shape": "cross"}]}


def test_pairs_are_read_from_the_words() -> None:
    assert named_pairs("A small Red circle and two blue crosses.") == {"red circle", "blue cross"}
    assert named_pairs("three objects: two circles and one star") == set()
    assert named_pairs("a red and blue ring, a redcircle, an orange starfish") == {"blue ring"}
    for colour in COLOURS:
        for shape in SHAPES:
            assert named_pairs(f"two large {colour} {plural(shape, 2)} in the centre") == {f"{colour} {shape}"}


def test_precision_and_recall_by_hand() -> None:
    assert truth_of("a red circle, a red circle and a green star", META) == {
        "pair_precision": 0.5, "pair_recall": 0.5, "captions_with_a_pair": 1.0
    }  # fmt: skip
    assert set(truth_of("two objects", META).values()) == {0.0}
    both = truth_of("a blue cross to the left of a red circle", META)
    assert both["pair_precision"] == both["pair_recall"] == 1.0


def test_what_the_scenes_say_of_themselves_is_true() -> None:
    scenes = Scenes("test", 30, SceneConfig(size=32, min_objects=1))
    for index in range(len(scenes)):
        sample = scenes[index]
        assert is_scene(sample.meta)
        detailed = truth_of(sample.texts[0], sample.meta)
        assert detailed["pair_precision"] == detailed["pair_recall"] == 1.0
        assert truth_of(sample.texts[1], sample.meta)["pair_precision"] == 1.0  # one relation: true, not everything
    assert not is_scene({}) and not is_scene({"objects": [{"name": "dog"}]}) and not is_scene({"objects": []})
