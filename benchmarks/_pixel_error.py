"""How far each way of making pixels is from PIL's: full decode, antialiased bicubic resize."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.core.visual import Image as Picture
from diptych.data.pixels.decode import decode
from diptych.data.pixels.resize import Kernel, resized, whole

Pixels = NDArray[np.uint8]


def pixel_errors(jpegs: Path, size: int, count: int = 100) -> list[dict[str, Any]]:
    """Peak signal-to-noise ratio in dB over the first pictures, whole pictures squashed to a square."""
    encoded = [path.read_bytes() for path in sorted(jpegs.glob("*.jpg"))[:count]]
    return [
        _row("diptych", encoded, size, _ours("bicubic", 0)),
        _row("diptych, bilinear", encoded, size, _ours("bilinear", 0)),
        _row("diptych, 112 pixels", encoded, 112, _ours("bicubic", 0)),
        _row("diptych, 112 pixels, scaled decoding", encoded, 112, _ours("bicubic", 112)),
    ]


def _ours(kernel: Kernel, min_size: int) -> Callable[[bytes, int], Pixels]:
    def make(encoded: bytes, size: int) -> Pixels:
        pixels_HWC = decode(Picture(encoded=encoded), min_size=min_size)
        return resized(pixels_HWC, whole(pixels_HWC), size, size, kernel)

    return make


def _pil(encoded: bytes, size: int) -> Pixels:
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


def _row(name: str, encoded: list[bytes], size: int, make: Callable[[bytes, int], Pixels]) -> dict[str, Any]:
    squared = [np.mean((make(one, size).astype(float) - _pil(one, size)) ** 2) for one in encoded]
    return {"side": name, "PSNR dB": 10 * math.log10(255**2 / float(np.mean(squared)))}
