"""Crop and resize, straight into a row of a batch.

H height, W width, C channels. Pixels are RGB uint8, HWC in memory, which torch calls channels-last: its antialiased
uint8 kernels are several times faster on that layout than on planes.
"""

from __future__ import annotations

import threading
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.core.visual import Pixels

Kernel = Literal["bicubic", "bilinear"]

_KERNELS = {
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.out,
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.out,
}


class Window(NamedTuple):
    """A rectangle of pixels: left and top edge, width and height."""

    x: int
    y: int
    width: int
    height: int


def resize_into(out_HWC: Pixels, pixels_HWC: Pixels, window: Window, kernel: Kernel = "bicubic") -> None:
    """Resizes a window of a picture to fill `out_HWC`, antialiased as Pillow does it (a = -0.5 for bicubic).

    Args:
        out_HWC: [h, w, 3] uint8, contiguous; written.
        pixels_HWC: [H, W, 3] uint8.
        window: inside the picture; of any size, smaller than the output too.
    """
    x, y, width, height = window
    crop_HWC = pixels_HWC[y : y + height, x : x + width]
    if (height, width) == out_HWC.shape[:2]:
        out_HWC[:] = crop_HWC
        return
    if not crop_HWC.flags.c_contiguous or not crop_HWC.flags.writeable:
        crop_HWC = _scratch_copy(crop_HWC)
    source_1CHW, target_1CHW = _channels_first(crop_HWC), _channels_first(out_HWC)
    _KERNELS[kernel](source_1CHW, list(out_HWC.shape[:2]), False, None, None, out=target_1CHW)


def _channels_first(pixels_HWC: Pixels) -> Tensor:
    """The same memory. Numpy turns the axes: torch would let go of the interpreter lock for each step, and among
    threads every return of the lock costs more than the step.
    """
    return torch.from_numpy(pixels_HWC.transpose(2, 0, 1)[None])


def resized(pixels_HWC: Pixels, window: Window, height: int, width: int, kernel: Kernel = "bicubic") -> Pixels:
    """`resize_into` a new array."""
    out_HWC = np.empty((height, width, 3), np.uint8)
    resize_into(out_HWC, pixels_HWC, window, kernel)
    return out_HWC


def whole(pixels_HWC: Pixels) -> Window:
    """The window that is the whole picture."""
    return Window(0, 0, pixels_HWC.shape[1], pixels_HWC.shape[0])


_memory = threading.local()


def _scratch_copy(crop_HWC: Pixels) -> Pixels:
    """A contiguous copy in memory that this thread reuses: a fresh block a picture costs more than the copy."""
    flat: Pixels | None = getattr(_memory, "flat", None)
    if flat is None or flat.size < crop_HWC.size:
        flat = np.empty(max(crop_HWC.size, 1 << 20), np.uint8)
        _memory.flat = flat
    copy_HWC = flat[: crop_HWC.size].reshape(crop_HWC.shape)
    np.copyto(copy_HWC, crop_HWC)
    return copy_HWC
