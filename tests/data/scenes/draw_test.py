"""Drawing scenes: splits never share a combination, everything occurs everywhere, and numbers follow from the seed."""

from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from diptych.core.errors import ConfigError
from diptych.data.scenes.draw import SPLITS, SceneConfig, check_split, draw_scene, in_split, random_scene
from diptych.data.scenes.world import BACKGROUNDS, COLOURS, PLAIN, SHAPES, SIZES, WORDS, Scene

COUNT = 3000


def shown(scene: Scene) -> tuple[tuple[str, ...], ...]:
    """What docs/scenes.md calls the combination: the colour-and-shape pairs, for a lone object size and cell too."""
    if len(scene.objects) == 1:
        (one,) = scene.objects
        return ((one.colour, one.shape, one.size, str(one.row), str(one.column)),)
    return tuple(sorted({(one.colour, one.shape) for one in scene.objects}))


def drawn(config: SceneConfig, split: str, count: int = COUNT) -> list[Scene]:
    return [draw_scene(config, split, index) for index in range(count)]


@pytest.mark.parametrize("config", [SceneConfig(objects=1), SceneConfig(objects=2), SceneConfig(objects=3, words=1)])
def test_no_combination_lies_in_two_splits(config: SceneConfig) -> None:
    seen = {split: {shown(scene) for scene in drawn(config, split)} for split in SPLITS}
    assert all(len(found) > 60 for found in seen.values()), {split: len(found) for split, found in seen.items()}
    for one, other in combinations(SPLITS, 2):
        assert not seen[one] & seen[other]


def test_another_seed_does_not_move_combinations() -> None:
    train = {shown(scene) for scene in drawn(SceneConfig(objects=2), "train")}
    test = {shown(scene) for scene in drawn(SceneConfig(objects=2, seed=5), "test")}
    assert not train & test


def test_splits_have_their_shares_of_the_combinations() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    scenes = [random_scene(SceneConfig(min_objects=3), rng) for _ in range(COUNT)]
    found = Counter(split for scene in scenes for split in SPLITS if in_split(scene, split))
    assert found.total() == COUNT  # each scene is of exactly one split
    assert abs(found["train"] / COUNT - 0.8) < 0.03
    assert abs(found["val"] / COUNT - 0.1) < 0.02 and abs(found["test"] / COUNT - 0.1) < 0.02


@pytest.mark.parametrize("split", SPLITS)
def test_every_value_occurs_in_every_split(split: str) -> None:
    scenes = drawn(SceneConfig(), split)
    objects = [one for scene in scenes for one in scene.objects]
    assert {one.colour for one in objects} == set(COLOURS)
    assert {one.shape for one in objects} == set(SHAPES)
    assert {one.size for one in objects} == set(SIZES)
    assert {(one.row, one.column) for one in objects} == {(row, column) for row in range(3) for column in range(3)}
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {scene.word for scene in scenes} == {"", *WORDS}
    assert abs(sum(scene.word != "" for scene in scenes) / COUNT - 0.2) < 0.03
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == {1, 2, 3}


def test_the_number_of_objects_is_uniform_where_combinations_are_not_held_out_unevenly() -> None:
    counts = Counter(len(scene.objects) for scene in drawn(SceneConfig(min_objects=2, objects=5), "train"))
    assert set(counts) == {2, 3, 4, 5}
    assert all(abs(count / COUNT - 0.25) < 0.04 for count in counts.values()), counts


def test_objects_lie_in_cells_of_their_own_inside_the_picture() -> None:
    for size in (24, 64, 100):
        for scene in drawn(SceneConfig(objects=8, size=size), "train", 300):
            assert len({(one.row, one.column) for one in scene.objects}) == len(scene.objects)
            for one in scene.objects:
                assert one.row == one.y * 3 // size and one.column == one.x * 3 // size
                assert one.radius <= min(one.y, one.x) and max(one.y, one.x) < size - one.radius
            for a, b in combinations(scene.objects, 2):
                assert max(abs(a.y - b.y), abs(a.x - b.x)) > max(a.radius, b.radius)


def test_large_objects_are_larger() -> None:
    radii = {(one.size, one.radius) for scene in drawn(SceneConfig(), "val", 200) for one in scene.objects}
    assert radii == {("small", 5), ("large", 9)}


def test_a_row_is_free_for_the_word() -> None:
    for scene in drawn(SceneConfig(objects=8, words=1), "train", 500):
        assert (scene.word != "") == (len(scene.objects) <= 6)
        if scene.word:
            assert all(one.row < 2 for one in scene.objects)


def test_a_scene_follows_from_seed_split_and_number_alone() -> None:
    config = SceneConfig(objects=4)
    forwards = drawn(config, "train", 50)
    assert [draw_scene(config, "train", index) for index in reversed(range(50))] == forwards[::-1]
    assert drawn(SceneConfig(objects=4, seed=1), "train", 50) != forwards
    assert len(set(forwards)) == 50


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"objects": 9}, "between 1 and 8 objects fit, got 1 to 9"),
        ({"objects": 2, "min_objects": 3}, "got 3 to 2"),
        ({"min_objects": 0}, "got 0 to 3"),
        ({"size": 23}, "drawn at 24 to 1024 pixels, not 23"),
        ({"size": 1025}, "not 1025"),
        ({"noise": -0.1}, r"noise -0.1 must be in \[0, 1\]"),
        ({"words": 1.5}, "words 1.5 must be"),
        ({"alt_text": 2.0}, "alt_text 2.0 must be"),
    ],
)
def test_settings_that_cannot_be_drawn(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        SceneConfig(**values)  # type: ignore[arg-type]


def test_an_unknown_split_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown split of the scenes 'vall': did you mean 'val'"):
        check_split("vall")


def test_a_lone_object_may_be_drawn_larger_and_stays_in_its_cell_and_in_the_picture() -> None:
    for size in (32, 64):
        plain = {(one.radius, one.size) for scene in drawn(SceneConfig(size, 1), "train", 200) for one in scene.objects}
        near = SceneConfig(size, objects=1, zoom=2.0, patterns=0)
        for scene in drawn(near, "train", 300):
            (one,) = scene.objects
            assert scene.background in PLAIN
            assert one.row == one.y * 3 // size and one.column == one.x * 3 // size
            assert one.radius <= min(one.y, one.x) and max(one.y, one.x) < size - one.radius
            assert one.radius > 1.6 * {kind: radius for radius, kind in plain}[one.size]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"zoom": 2.0}, "objects=1"), ({"zoom": 3.0, "objects": 1}, "from 1 to"), ({"patterns": 4}, "from 0 to 3")],
)
def test_a_zoom_that_does_not_fit_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SceneConfig(**options)
