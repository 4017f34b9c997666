"""MNIST's IDX format: pictures and labels in two gzipped files, class names in `classes.json`."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError
from diptych.core.sample import Sample
from diptych.core.seeding import hash_to_int
from diptych.core.visual import Image

PICTURES_END, LABELS_END = "-images-idx3-ubyte.gz", "-labels-idx1-ubyte.gz"


class IdxSource:
    """One split of grey pictures, given as RGB."""

    def __init__(self, pictures: Path) -> None:
        self.name = str(pictures.parent)
        self.problems: dict[str, list[str]] = {}
        prefix = pictures.name.removesuffix(PICTURES_END)
        labels = pictures.with_name(prefix + LABELS_END)
        self._pixels_NHW = read_idx(pictures)
        self._labels_N = read_idx(labels)
        if len(self._pixels_NHW) != len(self._labels_N):
            raise DataError(f"{pictures} has {len(self._pixels_NHW)} pictures but {len(self._labels_N)} labels")
        names = pictures.with_name("classes.json")
        classes = json.loads(names.read_text(encoding="utf-8")) if names.is_file() else None
        self._classes = classes or [str(i) for i in range(int(self._labels_N.max(initial=0)) + 1)]
        self._keys = [f"{prefix}-{index:05d}" for index in range(len(self._labels_N))]

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.name, len(self), self._pixels_NHW[:100].tobytes().hex()):016x}"

    def __getitem__(self, index: int) -> Sample:
        pixels_HWC = np.repeat(self._pixels_NHW[index][:, :, None], 3, axis=2)
        name = str(self._classes[int(self._labels_N[index])])
        return Sample(self._keys[index], (Image(pixels_HWC=pixels_HWC, name=self._keys[index]),), meta={"class": name})


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of unsigned bytes.

    Raises:
        DataError: not there, truncated, or not IDX.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"no file at {path}") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is truncated or not gzip: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an IDX file of unsigned bytes")
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape)):
        raise DataError(f"{path} announces {shape} values but holds {values.size}")
    return values.reshape(shape)
