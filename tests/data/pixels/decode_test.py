"""Every way people store pictures, decoded as they expect; what is no whole picture is refused by reason."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from diptych.core.processor import BadSample
from diptych.core.visual import Image, Pixels
from diptych.data.pixels.decode import MAX_PIXELS, decode
from diptych.data.pixels.jpeg_header import read_jpeg_header


def smooth(height: int = 48, width: int = 64) -> Pixels:
    """Gradients that survive JPEG, with every quadrant of its own."""
    y, x = np.mgrid[:height, :width]
    channels = (x * 255 / width, y * 255 / height, 128 + 100 * np.sin(x / 11 + y / 7))
    return np.stack(channels, -1).astype(np.uint8)


def encoded(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes, **options: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    found = decode(Image(encoded=data), "key", **options)
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
    return found.astype(np.int64)


def reason(data: bytes) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a damaged file raises; it does not warn
        with pytest.raises(BadSample) as caught:
            decode(Image(encoded=data), "the key")
    assert caught.value.key == "the key" and str(caught.value).startswith("the key: ")
    return caught.value.reason


PICTURE = PIL.Image.fromarray(smooth())


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 40}])
def test_fast_jpeg_equals_pillow(options: dict[str, Any]) -> None:
    data = encoded(PICTURE, "JPEG", **{"quality": 92, **options})
    header = read_jpeg_header(data)
    assert header is not None and header == (64, 48, True)
    difference = np.abs(pixels(data) - np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB")))
    assert difference.max() <= 3 and difference.mean() < 0.5


def test_a_view_of_a_mapped_file_decodes_as_its_bytes() -> None:
    data = encoded(PICTURE, "JPEG")
    assert np.array_equal(decode(Image(encoded=memoryview(data))), decode(Image(encoded=data)))
    png = encoded(PICTURE, "PNG")
    assert np.array_equal(decode(Image(encoded=memoryview(png))), smooth())


@pytest.mark.parametrize(("least", "shape"), [(0, (480, 640)), (480, (480, 640)), (200, (240, 320)), (60, (60, 80))])
def test_a_jpeg_may_come_smaller_but_never_below_the_size_asked_for(least: int, shape: tuple[int, int]) -> None:
    whole = PIL.Image.fromarray(smooth(480, 640))
    found = pixels(encoded(whole, "JPEG", quality=95), min_size=least)
    assert found.shape[:2] == shape
    reduced = np.asarray(whole.resize(shape[::-1], PIL.Image.Resampling.BOX)).astype(np.int64)
    assert np.abs(found - reduced).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_are_exact(kind: str) -> None:
    assert np.array_equal(pixels(encoded(PICTURE, kind)), smooth())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    found = pixels(encoded(PICTURE.convert("L"), kind, **({"quality": 95} if kind == "JPEG" else {})))
    assert np.array_equal(found[..., 0], found[..., 1]) and np.array_equal(found[..., 0], found[..., 2])
    assert np.abs(found[..., 0] - np.asarray(PICTURE.convert("L")).astype(np.int64)).max() <= 4


def test_cmyk_jpeg_has_the_colours_of_its_rgb() -> None:
    data = encoded(PICTURE.convert("CMYK"), "JPEG", quality=98, subsampling=0)
    header = read_jpeg_header(data)
    assert header is not None and not header.plain
    assert np.abs(pixels(data) - smooth()).max() <= 8


def test_jpeg_stored_as_rgb_keeps_its_colours() -> None:
    data = encoded(PICTURE, "JPEG", quality=98, keep_rgb=True)
    header = read_jpeg_header(data)
    assert header is not None and not header.plain
    assert np.abs(pixels(data) - smooth()).max() <= 8


def test_a_palette_gives_its_colours() -> None:
    paletted = PICTURE.quantize(16)
    assert np.array_equal(pixels(encoded(paletted, "PNG")), np.asarray(paletted.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_on_white(kind: str) -> None:
    alpha = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(48, 0)
    picture = PIL.Image.fromarray(np.dstack([smooth(), alpha]))
    found = pixels(encoded(picture, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))
    part = alpha[..., None] / 255
    assert np.abs(found - (smooth() * part + 255 * (1 - part))).max() <= 1
    assert (found[:, 0] == 255).all() and np.array_equal(found[:, -1], smooth()[:, -1])


def test_transparency_of_grey_and_of_a_palette_is_laid_on_white() -> None:
    grey = PIL.Image.merge("LA", (PICTURE.convert("L"), PIL.Image.new("L", PICTURE.size, 0)))
    assert (pixels(encoded(grey, "PNG")) == 255).all()
    paletted = PIL.Image.new("P", (4, 2), 0)
    paletted.putpalette([10, 20, 30, 200, 100, 50])
    paletted.putpixel((3, 1), 1)
    found = pixels(encoded(paletted, "PNG", transparency=0))
    assert found[1, 3].tolist() == [200, 100, 50] and (found[0] == 255).all()


def test_sixteen_bits_are_scaled_not_cut() -> None:
    values = np.linspace(0, 65535, 256 * 4).reshape(4, 256).astype(np.uint16)
    found = pixels(encoded(PIL.Image.fromarray(values), "PNG"))
    assert np.array_equal(found, np.rint(values / 257).astype(np.int64)[..., None].repeat(3, -1))
    assert found.min() == 0 and found.max() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["big", "little"])
def test_a_turned_photograph_stands_upright(orientation: int, order: str) -> None:
    exif = PIL.Image.Exif()
    exif.endian = "<" if order == "little" else ">"
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    data = encoded(PICTURE, "JPEG", quality=95, exif=exif)
    header = read_jpeg_header(data)
    assert header is not None and header.plain == (orientation == 1)
    upright = {
        1: smooth(), 2: smooth()[:, ::-1], 3: smooth()[::-1, ::-1], 4: smooth()[::-1],
        5: smooth().swapaxes(0, 1), 6: np.rot90(smooth(), -1), 7: smooth().swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(smooth(), 1),
    }[orientation]  # fmt: skip
    found = pixels(data)
    assert found.shape == upright.shape and np.abs(found - upright).mean() < 2


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "lime")]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (pixels(data) == [255, 0, 0]).all()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_what_breaks_off_is_truncated(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = encoded(PIL.Image.fromarray(noise), kind)
    assert reason(data[: int(len(data) * share)]) == "truncated image"


def test_a_jpeg_without_its_last_rows_is_truncated_on_either_path() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8))
    for options in ({}, {"exif": exif}, {"progressive": True}):
        data = encoded(noise, "JPEG", **options)
        assert reason(data[:-200]) == "truncated image"


@pytest.mark.parametrize("data", [b"", b"<html>404 not found</html>", b"\x00" * 4000, b"\xff\xd8\xff"])
def test_what_is_no_picture_is_named_so(data: bytes) -> None:
    assert reason(data) == "not an image"


def bomb(side: int) -> bytes:
    """A PNG that announces side x side pixels and holds none."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9500, 60_000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    assert side * side > MAX_PIXELS
    assert reason(bomb(side)) == "decompression bomb"
    jpeg = bytearray(encoded(PICTURE, "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", side, side)
    assert reason(bytes(jpeg)) == "decompression bomb"


def test_pixels_pass_through_untouched() -> None:
    given = smooth()
    assert decode(Image(pixels_HWC=given)) is given
