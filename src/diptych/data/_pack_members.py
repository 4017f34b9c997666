"""One sample as the members of a tar: its picture made small, its captions, everything else that is known of it.

H height, W width, C channels; pixels are RGB uint8.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import quote

import numpy as np
import simplejpeg

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Pixels
from diptych.data.pixels.decode import decode
from diptych.data.pixels.images import image_of
from diptych.data.pixels.jpeg_header import read_jpeg_header
from diptych.data.pixels.resize import Kernel, resized, whole
from diptych.data.sources._tar_members import KEY_RECORD, split_name


@dataclass(frozen=True)
class PictureFormat:
    """How pictures are stored.

    Attributes:
        kind: "jpeg", or "raw" for uint8 arrays [H, W, 3] in .npy members, which are read without decoding or copying.
        size: the side in pixels that larger pictures are made smaller to; 0 leaves every picture as large as it is.
        side: which side that is. Pictures are never enlarged and keep their shape.
        quality: of the JPEGs, 1 to 100; colours are stored at full resolution.
        kernel: antialiased resize kernel.
    """

    kind: Literal["jpeg", "raw"] = "jpeg"
    size: int = 0
    side: Literal["shorter", "longest"] = "shorter"
    quality: int = 90
    kernel: Kernel = "bicubic"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigError(f"size {self.size} must be positive, or 0 to leave pictures as they are")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality {self.quality} must be in [1, 100]")


@dataclass(frozen=True)
class Packed:
    """The members of one sample, ready to be written: (ending, bytes)."""

    key: str
    members: tuple[tuple[str, bytes], ...]

    def write(self, tar: tarfile.TarFile) -> None:
        """Appends them; no clock and no user is recorded, so that the same data makes the same tar."""
        name, headers = member_name(self.key)
        for ending, data in self.members:
            info = tarfile.TarInfo(f"{name}.{ending}")
            info.size, info.pax_headers = len(data), dict(headers)
            tar.addfile(info, io.BytesIO(data))


def packed(sample: Sample, form: PictureFormat) -> Packed:
    """A sample's members: its first picture, `.txt` for a single caption, `.json` for several and for the rest.

    Raises:
        BadSample: no picture, one that cannot be decoded, "no key", or "undecodable text".
    """
    if not sample.key:
        raise BadSample(sample.key, "no key")
    members = [_picture(sample, form)]
    facts = dict(sample.meta)
    if len(sample.texts) > 1:
        facts["captions"] = list(sample.texts)
    try:
        if len(sample.texts) == 1:
            members.append(("txt", sample.texts[0].encode()))
        if facts:
            members.append(("json", json.dumps(facts, ensure_ascii=False).encode()))
    except UnicodeEncodeError as error:
        raise BadSample(sample.key, "undecodable text", str(error)) from error
    return Packed(sample.key, tuple(members))


def member_name(key: str) -> tuple[str, dict[str, str]]:
    """The name that gives this key when it is read back, or a quoted one and the header that says the key."""
    path = PurePosixPath(key)
    safe = not path.is_absolute() and ".." not in path.parts and "\0" not in key
    if safe and split_name(f"{key}.jpg") == (key, "jpg"):
        return key, {}
    return quote(key, safe="").replace(".", "%2E"), {KEY_RECORD: key}


def _picture(sample: Sample, form: PictureFormat) -> tuple[str, bytes]:
    image = image_of(sample)
    pixels_HWC = decode(image, sample.key)
    smaller_HWC = shrunk(pixels_HWC, form)
    if form.kind == "raw":
        file = io.BytesIO()
        np.lib.format.write_array(file, np.ascontiguousarray(smaller_HWC), version=(1, 0))
        return "npy", file.getvalue()
    if smaller_HWC is pixels_HWC and image.encoded is not None:
        header = read_jpeg_header(image.encoded)
        if header is not None and header.plain:  # small enough: a second encoding would only lose
            return "jpg", bytes(image.encoded)
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(smaller_HWC), form.quality, "RGB", "444")
    return "jpg", encoded


def shrunk(pixels_HWC: Pixels, form: PictureFormat) -> Pixels:
    """The picture at its size in the pack; itself when it is small enough."""
    height, width = pixels_HWC.shape[:2]
    side = min(height, width) if form.side == "shorter" else max(height, width)
    if form.size == 0 or side <= form.size:
        return pixels_HWC
    new_height, new_width = (max(1, round(n * form.size / side)) for n in (height, width))
    return resized(pixels_HWC, whole(pixels_HWC), new_height, new_width, form.kernel)
