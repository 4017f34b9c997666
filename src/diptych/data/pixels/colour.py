"""Colour changes and blur on RGB uint8 pixels [H, W, 3]; each returns new pixels.

Definitions are Pillow's `ImageEnhance` and ITU-R 601 luma, which torchvision and the self-supervised literature use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageEnhance

from diptych.core.visual import Pixels


def brightness(pixels_HWC: Pixels, factor: float) -> Pixels:
    """Every value times `factor`; 0 is black, 1 changes nothing."""
    return np.asarray(ImageEnhance.Brightness(Pillow.fromarray(pixels_HWC)).enhance(factor))


def contrast(pixels_HWC: Pixels, factor: float) -> Pixels:
    """Away from the mean luma by `factor`; 0 is plain grey, 1 changes nothing."""
    return np.asarray(ImageEnhance.Contrast(Pillow.fromarray(pixels_HWC)).enhance(factor))


def saturation(pixels_HWC: Pixels, factor: float) -> Pixels:
    """Away from each pixel's own luma by `factor`; 0 is greyscale, 1 changes nothing."""
    return np.asarray(ImageEnhance.Color(Pillow.fromarray(pixels_HWC)).enhance(factor))


def hue(pixels_HWC: Pixels, turns: float) -> Pixels:
    """Turns the colour circle; 1/3 makes red green. In Pillow's 8-bit HSV, as torchvision does it."""
    hsv = np.array(Pillow.fromarray(pixels_HWC).convert("HSV"))
    hsv[..., 0] += np.uint8(round(turns * 256) % 256)  # wraps round, as angles do
    return np.asarray(Pillow.fromarray(hsv, "HSV").convert("RGB"))


def grey(pixels_HWC: Pixels) -> Pixels:
    """Luma in all three channels."""
    return np.repeat(np.asarray(Pillow.fromarray(pixels_HWC).convert("L"))[..., None], 3, axis=2)


def blurred(pixels_HWC: Pixels, sigma: float) -> Pixels:
    """A Gaussian blur, exact weights out to three sigma, edges reflected.

    Args:
        sigma: standard deviation in pixels.
    """
    weights = _gaussian(sigma)
    down = _convolved(pixels_HWC.astype(np.float32), weights, axis=0)
    return np.clip(np.rint(_convolved(down, weights, axis=1)), 0, 255).astype(np.uint8)


def _gaussian(sigma: float) -> NDArray[np.float32]:
    radius = max(1, int(np.ceil(3 * sigma)))
    at = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    normalised: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return normalised


def _convolved(values: NDArray[np.float32], weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    radius, length = len(weights) // 2, values.shape[axis]
    pads = [(radius, radius) if i == axis else (0, 0) for i in range(values.ndim)]
    padded = np.pad(values, pads, mode="symmetric")
    total = np.zeros_like(values)
    for offset, weight in enumerate(weights):
        total += weight * np.take(padded, range(offset, offset + length), axis=axis)
    return total
