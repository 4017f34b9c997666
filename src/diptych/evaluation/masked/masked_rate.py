"""How much of a picture a model's vectors still carry when cells of it are grey.

The cells are hidden in one seeded order, the same for every picture, and a larger share hides all that a smaller one
does. So which cells are hidden tells nothing about the picture, and what can be known of it can only fall: any rise is
the model's, which meets pictures unlike those it was trained on.

N pictures, R x C cells, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.records.results import Metric
from diptych.core.seeding import hash_to_int
from diptych.core.visual import Image
from diptych.data.pixels.decode import decode
from diptych.evaluation.metrics.transform import principal_axes
from diptych.evaluation.statistics import mean_metric
from diptych.objectives.entropy_model import bits, fitted_prior, rounded

GREY = 128
"""Of a hidden cell, in every colour."""


def hidden_cells(share: float, side: int, seed: int) -> NDArray[np.bool_]:
    """Which of `side` x `side` cells are hidden: round(share * side^2) of them, the first in a seeded order.

    Raises:
        ConfigError: a share outside 0 to 1, or no cell.
    """
    if not 0 <= share <= 1 or side < 1:
        raise ConfigError(f"a share between 0 and 1 of at least one cell can be hidden: got {share} of {side} x {side}")
    order = np.random.Generator(np.random.PCG64(hash_to_int("hidden cells", seed, side))).permutation(side * side)
    hidden = np.zeros(side * side, bool)
    hidden[order[: round(share * side * side)]] = True
    return hidden.reshape(side, side)


def with_grey_cells(image: Image, hidden_RC: NDArray[np.bool_]) -> Image:
    """The picture with its hidden cells grey; cells are equal parts of its height and width, to a pixel.

    Raises:
        BadSample: it cannot be decoded.
    """
    pixels_HWC = decode(image).copy()
    rows = np.arange(pixels_HWC.shape[0]) * hidden_RC.shape[0] // pixels_HWC.shape[0]
    columns = np.arange(pixels_HWC.shape[1]) * hidden_RC.shape[1] // pixels_HWC.shape[1]
    pixels_HWC[hidden_RC[rows[:, None], columns]] = GREY
    return Image(pixels_HWC=pixels_HWC, name=image.name)


@dataclass(frozen=True)
class Resolution:
    """How finely vectors are rounded.

    Attributes:
        step: the width of a cell along every axis, in the vectors' own unit.
        channels: the most principal axes that are coded.
    """

    step: float
    channels: int


def resolution_of(z_ND: Tensor, channels: int, step: float) -> Resolution:
    """A step of so many times the root mean square deviation along the axes of these vectors."""
    axes = principal_axes(z_ND, channels)
    spread = math.sqrt(float(axes.deviation_C.square().mean())) if len(axes.deviation_C) else 0.0
    return Resolution(step * spread if spread else 1.0, channels)


def rate_at(fit_ND: Tensor, test_ND: Tensor, resolution: Resolution, seed: int = 0) -> Metric:
    """Bits a vector, rounded at a resolution and coded by a density that was fitted to other vectors.

    Args:
        fit_ND: what axes and density are fitted to.
        test_ND: what is measured; the interval is over its vectors.
    """
    axes = principal_axes(fit_ND, resolution.channels)
    step_C = (resolution.step / axes.deviation_C).float()
    fit_NC, test_NC = (rounded(axes.coordinates(z_ND.double()).float(), step_C) for z_ND in (fit_ND, test_ND))
    bits_N = bits(test_NC, step_C, fitted_prior(fit_NC, step_C, steps=120))
    return replace(mean_metric(bits_N.tolist(), seed=seed), unit="number")


@dataclass(frozen=True)
class MaskedVectors:
    """The vectors of pictures of which a share was hidden."""

    share: float
    z_ND: Tensor


def masked_vectors(
    encode: Callable[[list[Image]], Tensor], images: Sequence[Image], shares: Sequence[float], side: int, seed: int
) -> list[MaskedVectors]:
    """Encodes the pictures once for each share.

    Args:
        encode: pictures -> their vectors [N, D].
        shares: of the cells that are hidden.
        side: cells along each side of a picture.
    """
    found = []
    for share in shares:
        hidden_RC = hidden_cells(share, side, seed)
        found.append(MaskedVectors(share, encode([with_grey_cells(image, hidden_RC) for image in images])))
    return found
