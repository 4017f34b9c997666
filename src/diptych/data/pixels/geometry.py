"""Which part of a picture a model sees: random crops, centre crops, rotation.

H height, W width, C channels; pixels are RGB uint8.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image as Pillow

from diptych.core.visual import Pixels
from diptych.data.pixels.resize import Kernel, Window, resize_into, resized, whole


def random_window(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Window:
    """A window with a random area and shape (Szegedy et al. 2015), as torchvision's RandomResizedCrop draws it.

    Args:
        scale: the share of the area, uniform.
        ratio: width over height, log-uniform.

    Returns:
        A window inside the picture; after ten draws that do not fit, the largest centred one within `ratio`.
    """
    area = width * height
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for u_area, u_ratio, u_x, u_y in rng.random((10, 4)).tolist():
        target = area * (scale[0] + u_area * (scale[1] - scale[0]))
        shape = math.exp(low + u_ratio * (high - low))
        w, h = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
        if 0 < w <= width and 0 < h <= height:
            return Window(int(u_x * (width - w + 1)), int(u_y * (height - h + 1)), w, h)
    w = min(width, round(height * ratio[1]))
    h = min(height, round(width / ratio[0]))
    return Window((width - w) // 2, (height - h) // 2, max(w, 1), max(h, 1))


def centre_crop_into(out_HWC: Pixels, pixels_HWC: Pixels, kernel: Kernel = "bicubic") -> None:
    """Resizes the shorter side to the output's, keeping the shape, then cuts the centre: CLIP's evaluation geometry.

    Sizes and offsets round as CLIP's released processor does: the longer side is truncated to whole pixels, and the
    crop starts at half of the difference, rounded down.

    Args:
        out_HWC: [n, n, 3] uint8; written.
    """
    size = out_HWC.shape[0]
    height, width = pixels_HWC.shape[:2]
    new_width, new_height = shorter_side_size(width, height, size)
    left, top = (new_width - size) // 2, (new_height - size) // 2
    full_HWC = resized(pixels_HWC, whole(pixels_HWC), new_height, new_width, kernel)
    out_HWC[:] = full_HWC[top : top + size, left : left + size]


def shorter_side_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the shorter one became `size`, the longer one truncated to whole pixels."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def squash_into(out_HWC: Pixels, pixels_HWC: Pixels, kernel: Kernel = "bicubic") -> None:
    """Resizes the whole picture to the output, whatever its shape: SigLIP's geometry."""
    resize_into(out_HWC, pixels_HWC, whole(pixels_HWC), kernel)


def rotated(pixels_HWC: Pixels, degrees: float) -> Pixels:
    """The picture turned counter-clockwise about its centre, same size; missing corners are filled by reflection."""
    height, width = pixels_HWC.shape[:2]
    diagonal = math.hypot(width, height)
    # Reflection can fill at most one more picture on each side.
    pad_x = min(math.ceil((diagonal - width) / 2) + 1, width - 1)
    pad_y = min(math.ceil((diagonal - height) / 2) + 1, height - 1)
    padded = np.pad(pixels_HWC, ((pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode="reflect")
    turned = np.asarray(Pillow.fromarray(padded).rotate(degrees, Pillow.Resampling.BILINEAR))
    return turned[pad_y : pad_y + height, pad_x : pad_x + width]
