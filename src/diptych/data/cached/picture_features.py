"""Cached features of the pictures of samples, in the place of pixels.

K rows of one sample, S features of a picture, C their width, N pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diptych.core.errors import DataError
from diptych.core.processor import BadSample, Field
from diptych.core.seeding import Draw
from diptych.data.cached.feature_rows import FeatureRows


@dataclass(frozen=True)
class PictureFeatures:
    """A row for each view of each picture of a sample, the first picture's views first.

    Attributes:
        rows: sample key -> [K, S * C].
        count: S.

    Raises:
        DataError: rows of that width are no such features.
    """

    rows: FeatureRows
    count: int

    def __post_init__(self) -> None:
        if self.rows.width % self.count:
            raise DataError(f"rows of {self.rows.width} numbers are not {self.count} features of a picture")

    def field(self, pictures: int) -> Field:
        """Room for so many pictures of a sample."""
        return Field((pictures, self.rows.width), "float32")

    def fill(self, out_PX: NDArray[np.float32], key: str, pictures: int, draw: Draw | None) -> None:
        """Writes the features of a sample's pictures: of a drawn view of each, or of the first (None).

        Raises:
            BadSample: it has none, or was cached with another number of pictures.
        """
        if not pictures:
            return
        self.rows.row(key)  # says why there are none
        held = len(self.rows[key])
        views, more = divmod(held, pictures)
        if more:
            raise BadSample(key, "other pictures than cached", f"{pictures} pictures, and {held} rows of features")
        for place in range(pictures):
            choice = draw.integer(f"view {place}") % views if draw else 0
            out_PX[place] = self.rows.row(key, place * views + choice)

    def cut(self, flat_NX: Tensor) -> Tensor:
        """[N, S, C]."""
        return flat_NX.view(len(flat_NX), self.count, flat_NX.shape[1] // self.count)
