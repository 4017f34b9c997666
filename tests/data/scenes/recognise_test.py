"""The recogniser reads rendered pictures back as well as docs/scenes.md says, and finds nothing where nothing is."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from diptych.core.visual import Pixels
from diptych.data.scenes.draw import SceneConfig, draw_scene, generator
from diptych.data.scenes.recognise import recognise
from diptych.data.scenes.render import background, render
from diptych.data.scenes.world import BACKGROUNDS, COLOURS, SHAPES, WORDS, Scene, SceneObject

PAGE = Path(__file__).resolve().parents[3] / "docs" / "scenes.md"


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    smooth = ndimage.gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0))
    return np.asarray(np.clip(smooth + 0.5, 0, 255), np.uint8)


def recall(config: SceneConfig, blur: float = 0.0, count: int = 80) -> float:
    """The share of objects that are read back with colour, shape, size and cell."""
    hits = total = 0
    for index in range(count):
        scene = draw_scene(config, "test", index)
        pixels = render(scene, config.noise, generator(config, "test", index, "noise"))
        found = Counter((o.colour, o.shape, o.size, o.row, o.column) for o in recognise(blurred(pixels, blur)))
        true = Counter((o.colour, o.shape, o.size, o.row, o.column) for o in scene.objects)
        hits, total = hits + (found & true).total(), total + true.total()
    return hits / total


def documented() -> dict[tuple[int, str, float], float]:
    """The table of docs/scenes.md: (side, what was done, how much) -> share of objects."""
    rows = re.findall(r"^\| (\d+) \| (noise|blur) ([\d.]+) \| ([\d.]+) % \|$", PAGE.read_text(), re.MULTILINE)
    return {(int(side), what, float(amount)): float(share) / 100 for side, what, amount, share in rows}


def test_the_page_has_a_table() -> None:
    assert len(documented()) == 8


def measured(case: tuple[int, str, float], count: int) -> float:
    side, what, amount = case
    noise, blur = (amount, 0.0) if what == "noise" else (0.0, amount)
    return recall(SceneConfig(size=side, words=0, noise=noise), blur, count)


@pytest.mark.parametrize("case", [case for case in sorted(documented()) if case[0] < 128])
def test_its_accuracy_is_about_the_documented_one(case: tuple[int, str, float]) -> None:
    assert abs(measured(case, 40) - documented()[case]) < 0.08


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(documented()))
def test_its_accuracy_is_the_documented_one(case: tuple[int, str, float]) -> None:
    assert measured(case, 250) == pytest.approx(documented()[case], abs=6e-4)


def test_everything_is_read_exactly_at_the_default_size_and_noise() -> None:
    assert recall(SceneConfig(), count=80) == 1.0


def test_every_colour_shape_and_size_is_read() -> None:
    for colour in COLOURS:
        for shape in SHAPES:
            for size, radius in (("small", 5), ("large", 9)):
                for kind in ("grey", "checked"):
                    one = SceneObject(colour, shape, size, 0, 2, 11, 52, radius)
                    (found,) = recognise(render(Scene((one,), kind, "", 64)))
                    assert (found.name, found.size, found.row, found.column) == (one.name, size, 0, 2), kind


def test_objects_come_in_reading_order() -> None:
    for index in range(12):
        found = recognise(render(draw_scene(SceneConfig(objects=8, min_objects=5), "train", index)))
        assert len(found) >= 5 and [(o.row, o.column) for o in found] == sorted((o.row, o.column) for o in found)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_backgrounds_and_words_alone_are_nothing(kind: str) -> None:
    assert recognise(background(kind, 64)) == []
    for word in WORDS:
        assert recognise(render(Scene((), kind, word, 64))) == []


def test_what_is_no_object_of_this_world_is_nothing() -> None:
    rng = np.random.default_rng(0)
    assert recognise(rng.integers(0, 256, (64, 64, 3), np.uint8)) == []
    bar = np.full((64, 64, 3), 250, np.uint8)
    bar[30:34, 4:60] = COLOURS["red"]
    assert recognise(bar) == []
    wrong = np.full((64, 64, 3), 250, np.uint8)
    wrong[20:38, 20:38] = (90, 60, 30)  # brown: no colour of the palette is near
    assert recognise(wrong) == []
    speck = np.full((64, 64, 3), 250, np.uint8)
    speck[20:23, 20:23] = COLOURS["blue"]
    assert recognise(speck) == []
