"""Regions of a picture: known boxes, grids, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.visual import Box
from diptych.data.pixels.regions import Boxes, RegionConfig, grid_boxes, mirrored, regions_of
from diptych.data.scenes.source import Scenes

PICTURE = np.zeros((20, 40, 3), np.uint8)


def test_a_grid_is_its_equal_cells_in_reading_order_after_the_whole_picture() -> None:
    expected = [[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    assert grid_boxes((1, 2)).tolist() == expected
    assert len(grid_boxes((1, 2, 3))) == 14
    areas = (grid_boxes((3,))[:, 2:] - grid_boxes((3,))[:, :2]).prod(1)
    np.testing.assert_allclose(areas, 1 / 9, rtol=1e-6)


def test_known_boxes_are_normalised_by_the_size_of_the_picture() -> None:
    known = [Box(0, 0, 40, 20), Box(10, 5, 20, 15)]
    found = regions_of(PICTURE, known, "a", RegionConfig("boxes"))
    np.testing.assert_allclose(found, [[0, 0, 1, 1], [0.25, 0.25, 0.5, 0.75]])


def test_the_first_known_boxes_are_taken_where_there_are_too_many() -> None:
    known = [Box(i, 0, i + 1, 1) for i in range(6)]
    found = regions_of(PICTURE, known, "a", RegionConfig("boxes", grid=(), most=4))
    np.testing.assert_allclose(found[:, 0] * 40, [0, 1, 2, 3])


def test_proposals_are_taken_where_no_box_is_known_and_always_where_so_configured() -> None:
    assert len(regions_of(PICTURE, [], "a", RegionConfig("boxes", grid=(2,)))) == 4
    assert len(regions_of(PICTURE, [Box(0, 0, 1, 1)], "a", RegionConfig("proposed", grid=(2,)))) == 4


def test_a_picture_without_boxes_is_refused_where_nothing_proposes_any() -> None:
    with pytest.raises(BadSample, match=r"some-key: no boxes .*give a grid or a detector"):
        regions_of(PICTURE, [], "some-key", RegionConfig("boxes", grid=()))


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        (Box(5, 5, 5, 9), r"\(5, 5\) to \(5, 9\) has no area"),
        (Box(9, 5, 5, 9), "corners are not in order"),
        (Box(5, 12, 9, 3), "corners are not in order"),
        (Box(30, 5, 41, 9), r"\(30, 5\) to \(41, 9\) is outside the picture of 40 x 20 pixels"),
        (Box(-1, 5, 4, 9), "outside the picture"),
        (Box(3, -7, 4, 9), "outside the picture"),
        (Box(3, 5, 4, 20.6), "outside the picture"),
        (Box(40, 5, 40.4, 9), "outside the picture"),
        (Box(float("nan"), 5, 4, 9), "has no area"),
    ],
)
def test_bad_boxes_are_refused_with_their_numbers(box: Box, sentence: str) -> None:
    with pytest.raises(BadSample, match=sentence) as caught:
        regions_of(PICTURE, [Box(0, 0, 1, 1), box], "a", RegionConfig("boxes"))
    assert caught.value.reason == "bad box"


def test_a_box_that_is_rounded_over_the_edge_is_cut_off_there() -> None:
    found = regions_of(PICTURE, [Box(-0.4, 0, 40.4, 20)], "a", RegionConfig("boxes"))
    assert found.tolist() == [[0, 0, 1, 1]]


def test_boxes_of_the_scenes_are_all_good() -> None:
    scenes = Scenes("train")
    for index in range(300):
        sample = scenes[index]
        pixels = sample.image.pixels_HWC
        assert pixels is not None
        found = regions_of(pixels, sample.boxes, sample.key, RegionConfig("boxes"))
        assert len(found) == len(sample.boxes) and bool((found[:, :2] < found[:, 2:]).all())


def test_a_mirrored_region_is_the_same_part_of_the_mirrored_picture() -> None:
    box = np.array([[0.1, 0.2, 0.4, 0.7]], np.float32)
    np.testing.assert_allclose(mirrored(box), [[0.6, 0.2, 0.9, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(mirrored(mirrored(box)), box, rtol=1e-6)


class Corner:
    """A detector that always sees the same three regions."""

    def boxes(self, pixels_HWC: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], most: int) -> Boxes:
        found: Boxes = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.2, 0.2], [0, 0, 0.1, 0.1]], np.float32)[:most]
        return found


def test_a_detectors_regions_follow_those_of_the_grid() -> None:
    config = RegionConfig(grid=(1,), most=3, detector="somewhere")
    found = regions_of(PICTURE, [], "a", config, Corner())
    np.testing.assert_allclose(found, [[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0, 0, 0.2, 0.2]], rtol=1e-6)
    assert config.room == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"grid": (3,), "most": 8}, "are 9, of which most=8"),
        ({"grid": (0,)}, "positive numbers of cells"),
        ({"grid": (), "most": 0}, "a most that holds them all"),
        ({"grid": ()}, "nothing does"),
        ({"mirror": 1.5}, "mirror 1.5"),
    ],
)
def test_settings_that_make_no_regions_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        RegionConfig(**settings)  # type: ignore[arg-type]


def test_room_is_what_the_grid_has_unless_there_may_be_more() -> None:
    assert RegionConfig().room == 14
    assert RegionConfig("boxes").room == 36
