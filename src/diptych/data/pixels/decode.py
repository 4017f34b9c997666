"""Encoded pictures as RGB pixels, whatever people have stored.

Plain JPEGs take a fast decoder that releases the interpreter lock; everything else (CMYK, palettes, alpha, 16 bits,
rotation by EXIF, animations) takes Pillow, with what people expect: alpha on white, the first frame, upright.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps
import simplejpeg

from diptych.core.processor import BadSample
from diptych.core.visual import Image, Pixels
from diptych.data.pixels.jpeg_header import JpegHeader, read_jpeg_header

MAX_PIXELS = 89_478_485
"""More than this many pixels is taken for a decompression bomb (Pillow's own limit)."""


def decode(image: Image, key: str = "", min_size: int = 0) -> Pixels:
    """RGB uint8 [H, W, 3].

    Args:
        image: encoded, or pixels already (returned as they are).
        key: the sample's, for the error.
        min_size: when positive, a JPEG may be decoded at 1/2, 1/4 or 1/8 as long as neither side falls below this:
            faster and a little softer.

    Raises:
        BadSample: "truncated image", "not an image" or "decompression bomb".
    """
    if image.pixels_HWC is not None:
        return image.pixels_HWC
    assert image.encoded is not None
    header = read_jpeg_header(image.encoded)
    if header is None or not header.plain:
        return _by_pillow(image.encoded, key)
    return _by_simplejpeg(image.encoded, header, key, min_size)


def _by_simplejpeg(encoded: bytes | memoryview, header: JpegHeader, key: str, min_size: int) -> Pixels:
    if header.width * header.height > MAX_PIXELS:
        raise BadSample(key, "decompression bomb", f"{header.width} x {header.height} pixels")
    least = _scaled(header, min_size) if min_size else (0, 0, 1.0)
    try:
        pixels_HWC: Pixels = simplejpeg.decode_jpeg(encoded, "RGB", False, False, *least, strict=True)
    except ValueError as error:
        raise BadSample(key, "truncated image", str(error)) from error
    return pixels_HWC


def _scaled(header: JpegHeader, min_size: int) -> tuple[int, int, float]:
    """Least height, least width and least reduction: by a power of two, since others are slower than none."""
    factor = next((f for f in (8, 4, 2) if min(header.width, header.height) >= min_size * f), 1)
    return -(-header.height // factor), -(-header.width // factor), float(factor)


def _by_pillow(encoded: bytes | memoryview, key: str) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of a damaged file is raised below
            with PIL.Image.open(io.BytesIO(encoded)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise BadSample(key, "decompression bomb", f"{opened.width} x {opened.height} pixels")
                opened.load()
                return np.asarray(_as_rgb(PIL.ImageOps.exif_transpose(opened)))
    except PIL.UnidentifiedImageError as error:
        raise BadSample(key, "not an image", f"{len(encoded)} bytes") from error
    except PIL.Image.DecompressionBombError as error:
        raise BadSample(key, "decompression bomb", str(error)) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:  # what Pillow's plugins raise on damage
        raise BadSample(key, "truncated image", str(error)) from error


def _as_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """RGB: 16 bits scaled to 8, transparency laid on white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return PIL.Image.fromarray(_to_eight_bits(np.asarray(picture))).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", picture.size, "white")
        return PIL.Image.alpha_composite(white, picture).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _to_eight_bits(values_HW: np.ndarray) -> np.ndarray:
    """Greyscale of 16 bits (or of a float in [0, 255]) as 8 bits."""
    scale = 1 / 257 if values_HW.dtype.kind in "iu" else 1.0
    return np.clip(np.rint(values_HW.astype(np.float64) * scale), 0, 255).astype(np.uint8)
