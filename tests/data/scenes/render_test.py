"""Rendering: objects in their colours and boxes, backgrounds, words and noise as they were asked for."""

import numpy as np
import pytest

from diptych.data.scenes.draw import SceneConfig, draw_scene
from diptych.data.scenes.render import background, box_of, coverage, render, word_mask
from diptych.data.scenes.world import BACKGROUNDS, COLOURS, SHAPES, WORDS, Scene, SceneObject


def changed(one: SceneObject, scene: Scene) -> np.ndarray:
    """Where a picture of this object alone differs from its background."""
    alone = render(Scene((one,), scene.background, "", scene.side))
    return np.asarray((alone != background(scene.background, scene.side)).any(2))


@pytest.mark.parametrize("side", [24, 64, 101])
def test_boxes_enclose_exactly_the_pixels_of_an_object(side: int) -> None:
    seen = set()
    for index in range(150):
        scene = draw_scene(SceneConfig(size=side, words=0), "train", index)
        for one in scene.objects:
            seen.add(one.shape)
            ys, xs = np.nonzero(changed(one, scene))
            box = box_of(one)
            assert (box.x0, box.y0, box.x1, box.y1) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), one
            assert box.label == f"{one.size} {one.colour} {one.shape}"
    assert seen == set(SHAPES)


def test_boxes_of_shapes_that_do_not_fill_their_square_are_smaller() -> None:
    def extent(shape: str) -> tuple[float, float]:
        box = box_of(SceneObject("red", shape, "large", 1, 1, 50, 50, 20))
        return box.x1 - box.x0, box.y1 - box.y0

    assert extent("circle") == extent("ring") == (41, 41)
    assert extent("square") == (37, 37)  # 0.88 of the radius on either side
    assert extent("triangle")[1] < 41 and extent("cross") == (39, 39)


def test_the_middle_of_an_object_has_its_colour() -> None:
    for colour, rgb in COLOURS.items():
        one = SceneObject(colour, "square", "large", 1, 1, 32, 32, 9)
        for kind in BACKGROUNDS:
            pixels = render(Scene((one,), kind, "", 64))
            assert (pixels[32 - 7 : 32 + 8, 32 - 7 : 32 + 8] == rgb).all()
            assert (pixels[:20] == background(kind, 64)[:20]).all()


AREAS = {
    "circle": np.pi,
    "square": (2 * 0.88) ** 2,
    "triangle": 1.8 * 1.98 / 2,
    "cross": 2 * (2 * 0.32 * 2 * 0.95) - (2 * 0.32) ** 2,
    "ring": np.pi * (1 - 0.55**2),
    "star": 5 * 0.42 * np.sin(np.pi / 5),  # ten triangles of sides 1 and 0.42 with 36 degrees between them
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_cover_the_area_of_their_geometry(shape: str) -> None:
    mask = coverage(shape, 40)[:, :, 0]
    assert mask.sum() == pytest.approx(AREAS[shape] * 40**2, rel=0.01)
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=1e-6)  # each is its own mirror image
    upright = np.abs(mask - mask[::-1]).max()
    assert (upright > 0.5) == (shape in ("triangle", "star"))


def test_triangles_and_stars_point_up() -> None:
    for shape in ("triangle", "star"):
        covered = coverage(shape, 40)[:, :, 0] > 0.5
        top = np.flatnonzero(covered.any(1))[0]
        assert covered[top].sum() <= 5 and abs(np.flatnonzero(covered[top]).mean() - 40) < 1
        assert top < 4


def test_backgrounds_differ_and_have_no_colour() -> None:
    pictures = {kind: background(kind, 64) for kind in BACKGROUNDS}
    assert len({picture.tobytes() for picture in pictures.values()}) == len(BACKGROUNDS)
    for kind, picture in pictures.items():
        assert (picture == picture[:, :, :1]).all()
        values = np.unique(picture)
        assert len(values) == (2 if kind in ("striped", "checked", "dotted") else 1)
    assert [int(pictures[kind][0, 0, 0]) for kind in ("white", "black", "grey")] == [250, 15, 130]


def test_painting_does_not_stain_the_background() -> None:
    before = background("white", 64).copy()
    render(draw_scene(SceneConfig(objects=8, words=1), "train", 0))
    assert (background("white", 64) == before).all()


def test_words_are_written_along_the_bottom_and_differ() -> None:
    masks = {word: word_mask(word, 64) for word in WORDS}
    assert len({mask.tobytes() for mask in masks.values()}) == len(WORDS)
    for kind in BACKGROUNDS:
        for word in WORDS:
            difference = render(Scene((), kind, word, 64)).astype(int) - background(kind, 64)
            ys, xs = np.nonzero(difference.any(2))
            assert ys.min() > 64 * 2 / 3 - 1 and abs((xs.min() + xs.max()) / 2 - 31.5) < 2
            assert abs(difference).max() >= 100  # legible
            assert (difference >= 0).all() if kind == "black" else (difference <= 0).all()


def test_an_object_at_the_edge_is_cut_off() -> None:
    whole = SceneObject("red", "circle", "large", 0, 0, 32, 32, 9)
    cut = SceneObject("red", "circle", "large", 0, 0, 32, 2, 9)
    one, other = (render(Scene((each,), "black", "", 64)) for each in (whole, cut))
    np.testing.assert_array_equal(one[:, 30 : 32 + 10], other[:, : 2 + 10])


def test_noise_has_its_standard_deviation_and_no_mean() -> None:
    scene = Scene((), "grey", "", 64)
    pictures = np.stack([render(scene, 0.05, np.random.default_rng(seed)) for seed in range(40)]).astype(float) - 130
    assert abs(pictures.mean()) < 0.2
    assert pictures.std() == pytest.approx(0.05 * 255, rel=0.01)
    assert len({picture.tobytes() for picture in pictures}) == 40
    np.testing.assert_array_equal(
        render(scene, 0.05, np.random.default_rng(1)), render(scene, 0.05, np.random.default_rng(1))
    )
    large = render(Scene((), "grey", "", 512), 0.05, np.random.default_rng(0)).astype(float) - 130
    assert large.std() == pytest.approx(0.05 * 255, rel=0.01)
