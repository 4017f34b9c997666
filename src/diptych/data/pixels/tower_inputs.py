"""What pretrained weights expect of their input, read from the folder they came in.

N pictures, C channels, H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.core.errors import DataError
from diptych.core.visual import Image, Pixels, as_image
from diptych.data.pixels.decode import decode
from diptych.data.pixels.geometry import shorter_side_size
from diptych.data.pixels.resize import Kernel, resize_into, resized, whole

PREPROCESSOR = "preprocessor_config.json"
WHOLE_PROCESSOR = "processor_config.json"
Triple = tuple[float, float, float]
_KERNELS: dict[int, Kernel] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for what we have; it also knows nearest (0), Lanczos (1), box (4) and Hamming (5)."""


@dataclass(frozen=True)
class TowerImages:
    """The geometry and normalisation of a pretrained image tower's pictures. Deterministic: there are no views.

    Attributes:
        height, width: of the result, in pixels.
        shorter_side: resize to this shorter side, keeping the shape, then cut the centre; None: squash the whole
            picture to `height` x `width`.
        kernel: antialiased resize kernel.
        scale, mean, std: pixels become (pixel * scale - mean) / std, by channel, on the tower's device.
        mirror: whether pictures are turned left to right.
    """

    height: int = 224
    width: int = 224
    shorter_side: int | None = 256
    kernel: Kernel = "bicubic"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    mirror: bool = False

    def fill(self, out_HWC: Pixels, image: Image, key: str) -> None:
        """Decodes a picture into [height, width, 3] uint8.

        Raises:
            BadSample: the picture cannot be decoded.
        """
        pixels_HWC = decode(image, key)
        if self.shorter_side is None:
            resize_into(out_HWC, pixels_HWC, whole(pixels_HWC), self.kernel)
        else:
            width, height = shorter_side_size(pixels_HWC.shape[1], pixels_HWC.shape[0], self.shorter_side)
            full_HWC = resized(pixels_HWC, whole(pixels_HWC), height, width, self.kernel)
            top, left = (height - self.height) // 2, (width - self.width) // 2
            out_HWC[:] = full_HWC[top : top + self.height, left : left + self.width]
        if self.mirror:
            out_HWC[:] = out_HWC[:, ::-1].copy()

    def pixels(self, visuals: Sequence[Any], threads: int = 2) -> Tensor:
        """[N, 3, height, width] uint8, channels-last strides, of whatever `as_image` takes.

        Raises:
            DataError: a picture is not there or cannot be decoded.
        """
        images = [as_image(value) for value in visuals]
        out_NHWC = np.empty((len(images), self.height, self.width, 3), np.uint8)

        def fill(index: int) -> None:
            self.fill(out_NHWC[index], images[index], images[index].name or f"picture {index}")

        with ThreadPoolExecutor(max(threads, 1), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(fill, range(len(images))))
        return torch.from_numpy(out_NHWC).permute(0, 3, 1, 2)


def read_tower_images(folder: Path) -> TowerImages:
    """The preprocessing that a `transformers` folder names.

    Raises:
        DataError: there is no `preprocessor_config.json`, or it asks for a step that is not offered here.
    """
    path, plain = preprocessing_file(folder)
    height, width, shorter_side = _geometry(plain, path)
    if plain.get("resample", 3) not in _KERNELS:
        raise DataError(f"{path}: resample {plain['resample']} is not offered: 2 (bilinear) or 3 (bicubic)")
    return TowerImages(
        height, width, shorter_side, _KERNELS[plain.get("resample", 3)], *read_normalisation(plain, path)
    )


def read_normalisation(plain: dict[str, Any], path: Path) -> tuple[float, Triple, Triple]:
    """Scale, mean and std: pixels become (pixel * scale - mean) / std.

    Raises:
        DataError: it normalises and does not say how.
    """
    scale = float(plain.get("rescale_factor", 1 / 255)) if plain.get("do_rescale", True) else 1.0
    if not plain.get("do_normalize", True):
        return scale, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if not (plain.get("image_mean") and plain.get("image_std")):
        raise DataError(f"{path}: normalises pictures, but has no image_mean or no image_std")
    return scale, tuple(plain["image_mean"]), tuple(plain["image_std"])


def preprocessing_file(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Of an image processor saved alone, or as version 5 saves it within a whole processor: the file and its content.

    Raises:
        DataError: there is none, or it is damaged.
    """
    for path in (folder / WHOLE_PROCESSOR, folder / PREPROCESSOR):
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise DataError(f"{path} is truncated or not JSON") from error
        if path.name == PREPROCESSOR:
            return path, plain
        if "image_processor" in plain:
            return path, plain["image_processor"]
    raise DataError(f"{folder} does not say how its pictures are prepared: it has no {PREPROCESSOR}")


def _geometry(plain: dict[str, Any], path: Path) -> tuple[int, int, int | None]:
    """Height, width and shorter side."""
    size = plain.get("size", 224)
    cropped = plain.get("do_center_crop", "crop_size" in plain)
    height, width = _sides(plain.get("crop_size", 224) if cropped else size)
    if not plain.get("do_resize", True) or (not cropped and height is None):
        raise DataError(f"{path}: pictures would keep different sizes, which cannot be batched")
    shorter = size.get("shortest_edge") if isinstance(size, dict) else size
    if not cropped or shorter is None:
        if cropped and _sides(size) != (height, width):
            raise DataError(f"{path}: a crop after a resize to fixed sides is not offered")
        shorter = None
    assert height is not None and width is not None
    if shorter is not None and shorter < max(height, width):
        raise DataError(f"{path}: a crop of {height}x{width} is larger than the shorter side, {shorter}")
    return height, width, shorter


def _sides(size: Any) -> tuple[int, int] | tuple[None, None]:
    if isinstance(size, int):
        return size, size
    if "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    return None, None
