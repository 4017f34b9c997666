"""MNIST's IDX format: pictures and labels in two files, gzipped or not, class names in `classes.json`."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.sources._content import digest_of

PICTURES_END, LABELS_END = "-images-idx3-ubyte", "-labels-idx1-ubyte"


def pictures_in(folder: Path) -> list[Path]:
    """The files of pictures in a folder, gzipped or not; one a split."""
    found = {path.name.removesuffix(".gz"): path for path in sorted(folder.glob(f"*{PICTURES_END}*"))}
    return [path for name, path in sorted(found.items()) if name.endswith(PICTURES_END)]


class IdxSource:
    """Grey pictures of one or several splits, given as RGB. Keys: `test-00000`, by the file's name and place in it."""

    def __init__(self, pictures: Sequence[Path]) -> None:
        self.name = str(pictures[0].parent)
        self.problems: dict[str, list[str]] = {}
        self._fingerprint = ""
        parts = [_read_split(path) for path in pictures]
        sizes = list(dict.fromkeys(pixels.shape[1:] for pixels, _, _ in parts))
        if len(sizes) > 1:
            shown = " and of ".join(f"{height}x{width}" for height, width in sizes)
            raise DataError(f"{self.name} holds pictures of {shown}: open one split at a time")
        self._pixels_NHW = np.concatenate([pixels for pixels, _, _ in parts])
        self._labels_N = np.concatenate([labels for _, labels, _ in parts])
        self._keys = [key for _, _, keys in parts for key in keys]
        names = pictures[0].with_name("classes.json")
        self._classes = _class_names(names) or [str(i) for i in range(int(self._labels_N.max(initial=0)) + 1)]
        if int(self._labels_N.max(initial=0)) >= len(self._classes):
            raise DataError(f"{names} names {len(self._classes)} classes, but label {int(self._labels_N.max())} occurs")

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        """Of keys, class names, labels and every pixel, all of which are in memory."""
        if not self._fingerprint:
            names = [*self._keys, *self._classes, str(self._pixels_NHW.shape)]
            self._fingerprint = digest_of([*names, self._labels_N.tobytes(), self._pixels_NHW.tobytes()])
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        pixels_HWC = np.repeat(self._pixels_NHW[index][:, :, None], 3, axis=2)
        name = self._classes[int(self._labels_N[index])]
        return Sample(self._keys[index], (Image(pixels_HWC=pixels_HWC, name=self._keys[index]),), meta={"class": name})


def _class_names(path: Path) -> list[str]:
    """The names of the classes; none where there is no such file."""
    if not path.is_file():
        return []
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no list of class names: {error}") from error
    if not isinstance(names, list):
        raise DataError(f"{path} is no list of class names but a {type(names).__name__}")
    return [str(name) for name in names]


def _read_split(pictures: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]:
    """Pictures [N, H, W], labels [N] and keys."""
    prefix, _, rest = pictures.name.partition(PICTURES_END)
    pixels_NHW, labels_N = read_idx(pictures), read_idx(pictures.with_name(prefix + LABELS_END + rest))
    if pixels_NHW.ndim != 3 or labels_N.ndim != 1:
        raise DataError(f"{pictures} and its labels have {pixels_NHW.ndim} and {labels_N.ndim} axes, not 3 and 1")
    if len(pixels_NHW) != len(labels_N):
        raise DataError(f"{pictures} has {len(pixels_NHW)} pictures but {len(labels_N)} labels")
    return pixels_NHW, labels_N, [f"{prefix}-{index:05d}" for index in range(len(labels_N))]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of unsigned bytes.

    Raises:
        DataError: not there, truncated, or not IDX.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError as error:
        raise DataError(f"no file at {path}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated or not gzip: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an IDX file of unsigned bytes")
    axes = data[3]
    if len(data) < 4 + 4 * axes:
        raise DataError(f"{path} breaks off in its header")
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape)):
        raise DataError(f"{path} announces {shape} values but holds {values.size}")
    return values.reshape(shape)
