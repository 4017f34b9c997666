"""Scenes as a function of (seed, split, index): drawn at random until the combination is one of the split's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diptych.core.errors import ConfigError, unknown_name
from diptych.core.seeding import hash_to_int, unit_interval
from diptych.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    GRID,
    PLAIN,
    SHAPES,
    SIZES,
    WORDS,
    Scene,
    SceneObject,
    combination,
)

SPLITS = {"train": (0.2, 1.0), "val": (0.1, 0.2), "test": (0.0, 0.1)}
"""Which part of the unit interval the hash of a split's combinations falls into."""
_COLOURS = tuple(COLOURS)
_RADIUS = {"small": 0.085, "large": 0.14}
_LARGEST_SIDE = 1024
_LARGEST_ZOOM = 2.2
"""Beyond it a large object would no longer lie in its own cell."""


@dataclass(frozen=True)
class SceneConfig:
    """How scenes look.

    Attributes:
        size: side of the pictures in pixels.
        objects, min_objects: how many objects there are at most and at least.
        words: share of scenes with a written word.
        noise: standard deviation of the pixels' Gaussian noise, in [0, 1] units.
        alt_text: share of captions replaced by noisy web-style text.
        seed: of the whole world.
        zoom: how much larger a lone object is drawn; 1 as it is among others.
        patterns: of striped, checked and dotted backgrounds, how many there may be beside the plain ones.
    """

    size: int = 64
    objects: int = 3
    min_objects: int = 1
    words: float = 0.2
    noise: float = 0.02
    alt_text: float = 0.0
    seed: int = 0
    zoom: float = 1.0
    patterns: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.min_objects <= self.objects <= GRID * GRID - 1:
            raise ConfigError(f"between 1 and {GRID * GRID - 1} objects fit, got {self.min_objects} to {self.objects}")
        if not 24 <= self.size <= _LARGEST_SIDE:
            raise ConfigError(f"scenes are drawn at 24 to {_LARGEST_SIDE} pixels, not {self.size}")
        if not 0 <= self.patterns <= len(BACKGROUNDS) - len(PLAIN):
            raise ConfigError(f"patterns {self.patterns} must be from 0 to {len(BACKGROUNDS) - len(PLAIN)}")
        if not 1 <= self.zoom <= _LARGEST_ZOOM or (self.zoom > 1 and self.objects > 1):
            raise ConfigError(
                f"zoom {self.zoom} must be from 1 to {_LARGEST_ZOOM}, and above 1 only with objects=1: larger objects "
                f"would lie on one another"
            )
        for name in ("words", "noise", "alt_text"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)} must be in [0, 1]")


def check_split(split: str) -> None:
    """Raises a ConfigError that names the nearest split."""
    if split not in SPLITS:
        raise unknown_name("split of the scenes", split, SPLITS)


def in_split(scene: Scene, split: str) -> bool:
    """Whether the scene's combination is one of the split's."""
    return split_has(split, combination(scene))


def split_has(split: str, combined: str) -> bool:
    """Whether what is shown together is one of the split's combinations."""
    low, high = SPLITS[split]
    return low <= unit_interval("scene combination", combined) < high


def generator(config: SceneConfig, split: str, index: int, purpose: str) -> np.random.Generator:
    """The random numbers of one scene, for one purpose."""
    return np.random.Generator(np.random.PCG64(hash_to_int("scenes", config.seed, split, index, purpose)))


def draw_scene(config: SceneConfig, split: str, index: int) -> Scene:
    """The scene number `index` of a split."""
    rng = generator(config, split, index, "scene")
    while True:
        scene = random_scene(config, rng)
        if in_split(scene, split):
            return scene


def random_scene(config: SceneConfig, rng: np.random.Generator) -> Scene:
    """Any scene, of whatever split."""
    count = int(rng.integers(config.min_objects, config.objects + 1))
    with_word = rng.random() < config.words
    # A word is written along the bottom: its row of cells stays free then, as far as the objects fit above it.
    cells = rng.permutation(GRID * (GRID - 1 if with_word and count <= GRID * (GRID - 1) else GRID))[:count]
    objects = tuple(
        place_object(
            _COLOURS[int(rng.integers(len(_COLOURS)))],
            SHAPES[int(rng.integers(len(SHAPES)))],
            SIZES[int(rng.integers(2))],
            divmod(int(cell), GRID),
            rng.random(2),
            config.size,
            config.zoom,
        )
        for cell in cells
    )
    kinds = BACKGROUNDS[: len(PLAIN) + config.patterns]
    background = kinds[int(rng.integers(len(kinds)))]
    word = WORDS[int(rng.integers(len(WORDS)))] if with_word and count <= GRID * (GRID - 1) else ""
    return Scene(objects, background, word, config.size)


def place_object(
    colour: str, shape: str, size: str, cell: tuple[int, int], jitter: np.ndarray[tuple[int], np.dtype[np.float64]],
    side: int, zoom: float = 1.0,
) -> SceneObject:  # fmt: skip
    """An object in its cell, and in the picture; jitter in [0, 1) moves it as far as it stays inside."""
    row, column = cell
    width = side / GRID
    radius = max(2, round(_RADIUS[size] * zoom * side))
    room = max(width / 2 - radius - 1, 0.0)
    y = round((row + 0.5) * width + (2 * float(jitter[0]) - 1) * room)
    x = round((column + 0.5) * width + (2 * float(jitter[1]) - 1) * room)
    if zoom > 1:
        y, x = (min(max(at, radius), side - 1 - radius) for at in (y, x))
    return SceneObject(colour, shape, size, row, column, y, x, radius)
