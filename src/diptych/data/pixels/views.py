"""Augmentations as views: a plain function from (pixels, random generator) to a filled row of the batch.

H height, W width, C channels. Everything random comes from the generator that is handed in, `Draw.rng("view")` of the
sample, so a view depends on (seed, epoch, key) alone; a processor that wants two views of one picture draws twice, with
two purposes. What costs nothing is free: with crops alone, a view is one resize into the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diptych.core.errors import ConfigError
from diptych.core.visual import Pixels
from diptych.data.pixels import colour
from diptych.data.pixels.geometry import random_window, rotated
from diptych.data.pixels.resize import Kernel, resize_into


@dataclass(frozen=True)
class Views:
    """How training pictures vary. Order: rotation, crop and resize, flip, colour, grey, blur.

    Attributes:
        crop_scale: the crop's share of the picture's area, drawn uniformly (Szegedy et al. 2015, "Inception crop").
        ratio: the crop's width over height, drawn log-uniformly.
        flip: probability of a mirror image. Off by default: it makes captions that say left and right untrue.
        rotate: largest angle in degrees, either way; the corners that turn in are filled by reflection.
        brightness, contrast, saturation: a factor drawn from [1 - x, 1 + x].
        hue: largest turn of the colour circle, in turns (0.5 is half-way round), either way.
        colour: probability that the four above apply.
        grey: probability of greyscale.
        blur: probability of a Gaussian blur.
        blur_sigma: its standard deviation in output pixels, drawn uniformly.
    """

    crop_scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    rotate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    colour: float = 1.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ConfigError(f"crop_scale {self.crop_scale} must be two fractions in (0, 1], in order")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"ratio {self.ratio} must be two positive numbers, in order")
        for name in ("flip", "colour", "grey", "blur", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)} must be in [0, 1]")
        if not 0 <= self.hue <= 0.5:
            raise ConfigError(f"hue {self.hue} must be in [0, 0.5]")


def view_into(
    out_HWC: Pixels, pixels_HWC: Pixels, views: Views, rng: np.random.Generator, kernel: Kernel = "bicubic"
) -> None:
    """Draws one view of a picture into a row.

    Args:
        out_HWC: [h, w, 3] uint8, contiguous; written.
        pixels_HWC: [H, W, 3] uint8, any size.
    """
    if views.rotate:
        pixels_HWC = rotated(pixels_HWC, float(rng.uniform(-views.rotate, views.rotate)))
    height, width = pixels_HWC.shape[:2]
    resize_into(out_HWC, pixels_HWC, random_window(width, height, views.crop_scale, views.ratio, rng), kernel)
    if views.flip and rng.random() < views.flip:
        out_HWC[:] = out_HWC[:, ::-1].copy()
    if _any_jitter(views) and rng.random() < views.colour:
        out_HWC[:] = _jittered(out_HWC, views, rng)
    if views.grey and rng.random() < views.grey:
        out_HWC[:] = colour.grey(out_HWC)
    if views.blur and rng.random() < views.blur:
        out_HWC[:] = colour.blurred(out_HWC, float(rng.uniform(*views.blur_sigma)))


def _any_jitter(views: Views) -> bool:
    return bool(views.brightness or views.contrast or views.saturation or views.hue)


def _jittered(pixels_HWC: Pixels, views: Views, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast, saturation and hue in an order drawn per picture, as SimCLR's jitter does."""

    def factor(spread: float) -> float:
        return float(rng.uniform(1 - spread, 1 + spread))

    for step in rng.permutation(4):
        if step == 0 and views.brightness:
            pixels_HWC = colour.brightness(pixels_HWC, factor(views.brightness))
        elif step == 1 and views.contrast:
            pixels_HWC = colour.contrast(pixels_HWC, factor(views.contrast))
        elif step == 2 and views.saturation:
            pixels_HWC = colour.saturation(pixels_HWC, factor(views.saturation))
        elif step == 3 and views.hue:
            pixels_HWC = colour.hue(pixels_HWC, float(rng.uniform(-views.hue, views.hue)))
    return pixels_HWC
