"""How a picture becomes pixels of fixed size: the same settings for training, evaluation and serving.

B batch, N pictures, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.core.visual import Image, Pixels, as_image
from diptych.data.pixels.decode import decode
from diptych.data.pixels.geometry import centre_crop_into, squash_into
from diptych.data.pixels.resize import Kernel
from diptych.data.pixels.views import Views, view_into
from diptych.data.stopwatch import spent

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImagePreprocessing:
    """Size, geometry and normalisation of a model's pictures.

    Attributes:
        size: side of the square in pixels.
        resize: evaluation geometry: "shorter_crop" (CLIP) keeps the shape and cuts the centre; "squash" (SigLIP) keeps
            everything and changes the shape.
        mean, std: of values in [0, 1], by channel; applied by the model on its device.
        views: how training pictures vary; None to train on the evaluation geometry.
        kernel: antialiased resize kernel.
        scaled_decoding: whether JPEGs with pixels to spare are decoded at 1/2, 1/4 or 1/8 of their size, never below
            what the smallest crop needs: faster, and a little softer.
    """

    size: int = 224
    resize: Literal["shorter_crop", "squash"] = "shorter_crop"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    views: Views | None = field(default_factory=Views)
    kernel: Kernel = "bicubic"
    scaled_decoding: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"image size {self.size} must be at least 1")
        if min(self.std) <= 0:
            raise ConfigError(f"image std {self.std} must be positive")

    def min_decoded(self, training: bool) -> int:
        """The shortest side in pixels that a decoder must leave; 0 for all there is.

        A crop's side is about the square root of its share of the area; a crop in another shape than the picture's
        may be enlarged a little.
        """
        if not self.scaled_decoding:
            return 0
        smallest = self.views.crop_scale[0] if training and self.views is not None else 1.0
        return math.ceil(self.size / math.sqrt(smallest))


@runtime_checkable
class Preprocessing(Protocol):
    """A predictor that prepares every picture in one way, so that threads can do it ahead: of a picture that is of its
    size already, it changes nothing."""

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """What every picture goes through first, in evaluation geometry."""
        ...


def image_of(sample: Sample) -> Image:
    """The sample's picture.

    Raises:
        BadSample: it has none, or a clip in its place.
    """
    if not sample.visuals:
        raise BadSample(sample.key, "no image")
    visual = sample.visuals[0]
    if not isinstance(visual, Image):
        raise BadSample(sample.key, "not an image", "a clip where a picture is expected")
    return visual


def fill_pixels(
    out_HWC: Pixels, image: Image, key: str, config: ImagePreprocessing, draw: Draw | None, purpose: str = "view"
) -> None:
    """Decodes a picture and writes one view of it (draw given) or its evaluation geometry (None).

    Args:
        out_HWC: [size, size, 3] uint8; written.
        purpose: names the draw; another purpose is another view of the same picture.

    Raises:
        BadSample: the picture cannot be decoded.
    """
    started = perf_counter()
    pixels_HWC = decode(image, key, config.min_decoded(draw is not None))
    decoded = perf_counter()
    if draw is not None and config.views is not None:
        view_into(out_HWC, pixels_HWC, config.views, draw.rng(purpose), config.kernel)
    elif config.resize == "squash":
        squash_into(out_HWC, pixels_HWC, config.kernel)
    else:
        centre_crop_into(out_HWC, pixels_HWC, config.kernel)
    spent.decode += decoded - started
    spent.augment += perf_counter() - decoded


def pixels_of(visuals: Sequence[Any], config: ImagePreprocessing, threads: int = 2) -> Tensor:
    """Pictures in evaluation geometry.

    Args:
        visuals: Images, paths, bytes, PIL images or arrays.

    Returns:
        [N, 3, size, size] uint8, channels-last strides.

    Raises:
        BadSample: a picture cannot be decoded.
        DataError: a path is not there, or a value is no picture.
    """
    values = list(visuals)
    once = {id(value): value for value in values}  # a picture that is asked about many times is read once
    if len(once) < len(values):
        row_of = {identity: row for row, identity in enumerate(once)}
        pixels_NCHW = pixels_of(list(once.values()), config, threads)
        rows = [row_of[id(value)] for value in values]
        return pixels_NCHW.permute(0, 2, 3, 1)[rows].permute(0, 3, 1, 2)
    images = [as_image(value) for value in values]
    out_NHWC = np.empty((len(images), config.size, config.size, 3), np.uint8)

    def fill(index: int) -> None:
        name = images[index].name or f"picture {index}"
        fill_pixels(out_NHWC[index], images[index], name, config, None)

    if threads > 1 and len(images) > 1:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(fill, range(len(images))))
    else:
        for index in range(len(images)):
            fill(index)
    return torch.from_numpy(out_NHWC).permute(0, 3, 1, 2)
