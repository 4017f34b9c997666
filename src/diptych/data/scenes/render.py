"""Scenes as pixels, with antialiased edges from precomputed masks.

H height, W width, C channels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diptych.core.sample import Box
from diptych.core.visual import Pixels
from diptych.data.scenes.world import COLOURS, Scene, SceneObject

_OVERSAMPLING = 8
_PLAIN = {"white": 250, "black": 15, "grey": 130}
_PATTERN = (232, 206)  # the two greys of patterned backgrounds
_NOISE_TABLE = 1 << 20


def render(scene: Scene, noise: float = 0.0, rng: np.random.Generator | None = None) -> Pixels:
    """The picture [side, side, 3].

    Args:
        noise: standard deviation in [0, 1] units.
        rng: of the noise; needed when there is any.
    """
    pixels_HWC = background(scene.background, scene.side).copy()
    for one in scene.objects:
        paint(pixels_HWC, one)
    if scene.word:
        _write(pixels_HWC, scene.word, scene.background)
    if noise > 0:
        assert rng is not None
        _add_noise(pixels_HWC, noise, rng)
    return pixels_HWC


def paint(pixels_HWC: Pixels, one: SceneObject) -> None:
    """Draws an object, cut off at the picture's edge."""
    mask_HW1 = coverage(one.shape, one.radius)
    side, radius = pixels_HWC.shape[0], one.radius
    top, left = one.y - radius, one.x - radius
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + 2 * radius + 1, side), min(left + 2 * radius + 1, side)
    part = mask_HW1[y0 - top : y1 - top, x0 - left : x1 - left]
    under = pixels_HWC[y0:y1, x0:x1]
    colour = np.array(COLOURS[one.colour], np.float32)
    pixels_HWC[y0:y1, x0:x1] = under + part * (colour - under) + 0.5


def box_of(one: SceneObject) -> Box:
    """The smallest rectangle around the pixels of an object that nothing hides."""
    x0, y0, x1, y1 = _extent(one.shape, one.radius)
    return Box(one.x + x0, one.y + y0, one.x + x1, one.y + y1, one.full_name)


@lru_cache(maxsize=256)
def _extent(shape: str, radius: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of what a shape covers, from its centre."""
    covered_HW = coverage(shape, radius)[:, :, 0] > 0
    ys, xs = np.flatnonzero(covered_HW.any(1)) - radius, np.flatnonzero(covered_HW.any(0)) - radius
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


@lru_cache(maxsize=256)
def coverage(shape: str, radius: int) -> NDArray[np.float32]:
    """How much of each pixel a shape covers, [2 * radius + 1, 2 * radius + 1, 1] in [0, 1]."""
    count = (2 * radius + 1) * _OVERSAMPLING
    axis = ((np.arange(count) + 0.5) / count * 2 - 1) * (radius + 0.5) / radius
    y, x = np.meshgrid(axis, axis, indexing="ij")
    inside = _inside(shape, y, x)
    fine = inside.reshape(2 * radius + 1, _OVERSAMPLING, 2 * radius + 1, _OVERSAMPLING)
    mask_HW: NDArray[np.float32] = fine.mean((1, 3), dtype=np.float32)
    return mask_HW[:, :, None]


def _inside(shape: str, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points of [-1, 1] x [-1, 1] (y downwards) belong to a shape."""
    distance = np.hypot(x, y)
    if shape == "circle":
        return distance <= 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.88
    if shape == "triangle":
        return (y <= 0.85) & (abs(x) <= (y + 0.95) * 0.55)
    if shape == "cross":
        return ((abs(x) <= 0.32) & (abs(y) <= 0.95)) | ((abs(y) <= 0.32) & (abs(x) <= 0.95))
    if shape == "ring":
        return (distance <= 1) & (distance >= 0.55)
    assert shape == "star", shape
    angle = np.arctan2(x, -y)
    sector = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)  # 0 at a tip, pi/5 between two
    inner = 0.42
    # The straight edge from the tip (radius 1, angle 0) to the notch (radius `inner`, angle pi/5).
    edge = inner * np.sin(np.pi / 5) / (inner * np.sin(np.pi / 5 - sector) + np.sin(sector))
    return distance <= np.where(sector > 0, edge, 1.0)


@lru_cache(maxsize=32)
def background(kind: str, side: int) -> Pixels:
    """A background [side, side, 3]; shared, so copy it before drawing."""
    if kind in _PLAIN:
        return np.full((side, side, 3), _PLAIN[kind], np.uint8)
    period = max(4, side // 8)
    y, x = np.mgrid[:side, :side]
    if kind == "striped":
        dark = (y // (period // 2)) % 2 == 1
    elif kind == "checked":
        dark = ((y // period) + (x // period)) % 2 == 1
    else:
        assert kind == "dotted", kind
        dark = np.hypot(y % period - period / 2, x % period - period / 2) < period / 4
    grey_HW = np.where(dark, _PATTERN[1], _PATTERN[0]).astype(np.uint8)
    return np.repeat(grey_HW[:, :, None], 3, axis=2)


@lru_cache(maxsize=64)
def word_mask(word: str, side: int) -> NDArray[np.float32]:
    """A word's ink [height, width, 1] in [0, 1], as wide as two thirds of the picture at most."""
    font = ImageFont.load_default(size=max(9, side // 5))
    left, top, right, bottom = font.getbbox(word)
    canvas = Image.new("L", (int(right - left), int(bottom - top)), 0)
    ImageDraw.Draw(canvas).text((-left, -top), word, fill=255, font=font)
    mask_HW: NDArray[np.float32] = np.asarray(canvas, np.float32) / np.float32(255)
    return mask_HW[:, :, None]


def _write(pixels_HWC: Pixels, word: str, kind: str) -> None:
    mask_HW1 = word_mask(word, pixels_HWC.shape[0])
    height, width = mask_HW1.shape[:2]
    side = pixels_HWC.shape[0]
    y, x = side - height - max(2, side // 24), (side - width) // 2
    ink = np.float32(240 if kind == "black" else 20)
    under = pixels_HWC[y : y + height, x : x + width]
    pixels_HWC[y : y + height, x : x + width] = under + mask_HW1 * (ink - under) + 0.5


@lru_cache(maxsize=1)
def _noise_table() -> NDArray[np.float32]:
    return np.random.Generator(np.random.PCG64(7)).standard_normal(_NOISE_TABLE, dtype=np.float32)


def _add_noise(pixels_HWC: Pixels, noise: float, rng: np.random.Generator) -> None:
    """Gaussian noise from a place of its own in a long table: drawing afresh would cost more than the picture."""
    table = _noise_table()
    size = pixels_HWC.size
    if size > _NOISE_TABLE // 2:
        values = rng.standard_normal(size, dtype=np.float32)
    else:
        begin = int(rng.integers(_NOISE_TABLE - size))
        values = table[begin : begin + size]
    noisy = values.reshape(pixels_HWC.shape) * np.float32(255 * noise)
    noisy += pixels_HWC
    np.clip(noisy, 0, 255, out=noisy)
    pixels_HWC[:] = noisy + np.float32(0.5)
