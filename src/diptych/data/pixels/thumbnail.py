"""Pictures small enough to stand in a page itself, as `data:` addresses."""

from __future__ import annotations

import base64
import io

import PIL.Image

from diptych.core.visual import Image
from diptych.data.pixels.decode import decode

LONGEST_SIDE = 144
"""Pixels of a thumbnail's longer side."""


def thumbnail(image: Image, key: str = "", side: int = LONGEST_SIDE) -> str:
    """A picture as a small JPEG in a `data:` address.

    Args:
        key: the sample's, for the error.
        side: pixels of the longer side, of larger pictures.

    Raises:
        BadSample: it cannot be decoded.
    """
    return _address(_small(image, key, side, side), "jpeg", quality=82)


def png(image: Image, key: str = "") -> str:
    """A picture in a `data:` address without loss, made smaller only where it is large: for what is compared closely.

    Raises:
        BadSample: it cannot be decoded.
    """
    return _address(_small(image, key, LONGEST_SIDE, 0), "png")


def _small(image: Image, key: str, side: int, min_decoded: int) -> PIL.Image.Image:
    small = PIL.Image.fromarray(decode(image, key, min_decoded))
    small.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    return small


def _address(picture: PIL.Image.Image, kind: str, quality: int = 75) -> str:
    written = io.BytesIO()
    picture.save(written, kind.upper(), quality=quality, optimize=True)
    return f"data:image/{kind};base64," + base64.b64encode(written.getvalue()).decode("ascii")
