"""What a frozen tower makes of pictures, computed once and kept: a row, or several, a sample.

N pictures of all samples of a block, K of one sample, S features of a picture, C their width, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.cached.feature_cache import Extraction, cached_features
from diptych.data.cached.feature_rows import FeatureRows
from diptych.data.cached.picture_features import PictureFeatures
from diptych.data.pixels.images import ImagePreprocessing, fill_pixels
from diptych.layers.frozen_pass import FrozenPass, Precision, exact
from diptych.layers.pretrained import Tower
from diptych.layers.weight_hash import weight_hash
from diptych.models.pretrained_backbone._patch_features import PatchFeatures

_PATCH_BLOCK = 128
"""Samples of which the features of every place are held at once."""


@dataclass(frozen=True)
class Pass:
    """How a frozen tower is run.

    Attributes:
        batch: pictures at once.
        threads: that decode.
        compiled: whether it is compiled: a minute once, several times faster after it.
        kept: the number format of what is written.
    """

    device: torch.device
    precision: Precision = "auto"
    batch: int = 64
    threads: int = 2
    compiled: bool = True
    kept: Literal["float16", "float32"] = "float16"


def picture_rows(
    root: Path, source: Source, tower: Tower, prepare: Callable[[Sample], NDArray[np.uint8]],
    preprocessing: Mapping[str, Any], how: Pass, block: int = 512,
) -> FeatureRows:  # fmt: skip
    """A row for each picture that `prepare` makes of a sample [K, H, W, 3].

    Args:
        root: the folder of caches.
        preprocessing: all that a row depends on, other than the source and the tower's weights and architecture.

    Raises:
        DataError, StorageError: as `cached_features`.
    """
    precision = exact(how.precision, how.device)
    run = FrozenPass(tower.to(how.device), how.batch, precision, how.compiled)

    def encode(items: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[np.floating[Any]]]:
        pixels_NCHW = torch.from_numpy(np.concatenate(items)).permute(0, 3, 1, 2)
        shown = pixels_NCHW if len(pixels_NCHW) else pixels_NCHW.new_zeros(1, *pixels_NCHW.shape[1:])  # for its width
        rows_NX = run(shown.to(how.device)).flatten(1)[: len(pixels_NCHW)].cpu().numpy()
        return np.split(rows_NX, np.cumsum([len(item) for item in items])[:-1])

    described = {**preprocessing, "precision": precision, "architecture": architecture_of(tower)}
    extraction = Extraction(weight_hash(tower), described, prepare, encode)
    return cached_features(root, source, extraction, dtype=how.kept, threads=how.threads, block=block)


def picture_features(
    root: Path, source: Source, tower: PatchFeatures, image: ImagePreprocessing, how: Pass, mirrored: bool = False
) -> PictureFeatures:
    """The features of every picture of a source, in evaluation geometry.

    Args:
        tower: frozen.
        image: without views: a random one cannot be cached.
        mirrored: whether each picture is kept mirrored too, as a second view.

    Raises:
        ConfigError: the pictures have views.
        DataError, StorageError: as `cached_features`.
    """
    if image.views is not None:
        raise ConfigError(
            "features of random views cannot be cached, every epoch would see the same ones: set image.views to none"
        )
    count, _ = tower.shape(image.size)

    def prepare(sample: Sample) -> NDArray[np.uint8]:
        images = [visual for visual in sample.visuals if isinstance(visual, Image)]
        if len(images) < len(sample.visuals):
            raise BadSample(sample.key, "a clip in a conversation")
        pixels_NHWC = np.empty((len(images), image.size, image.size, 3), np.uint8)
        for one_HWC, shown in zip(pixels_NHWC, images, strict=True):
            fill_pixels(one_HWC, shown, sample.key, image, None)
        if not mirrored:
            return pixels_NHWC
        both_NVHWC = np.stack([pixels_NHWC, pixels_NHWC[:, :, ::-1]], axis=1)
        return both_NVHWC.reshape(-1, *pixels_NHWC.shape[1:])

    preprocessing = {
        "image": image,
        "mean": tower.mean_C11.flatten().tolist(),
        "std": tower.std_C11.flatten().tolist(),
        "layer": tower.layer,
        "special": tower.special,
        "mirrored": mirrored,
    }
    return PictureFeatures(picture_rows(root, source, tower.eval(), prepare, preprocessing, how, _PATCH_BLOCK), count)


def architecture_of(tower: Tower) -> dict[str, Any]:
    """What of a backbone its weights do not show: activations, heads, norms."""
    plain: dict[str, Any] = tower.config.to_dict()
    return {name: plain[name] for name in plain if name != "transformers_version" and not name.startswith("_")}
