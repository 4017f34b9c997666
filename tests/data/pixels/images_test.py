"""Scaled decoding: as many pixels as the smallest crop needs, never fewer."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from diptych.core.seeding import Draw
from diptych.core.visual import Image, Pixels
from diptych.data.pixels import images
from diptych.data.pixels.images import ImagePreprocessing, fill_pixels, pixels_of
from diptych.data.pixels.views import Views


@pytest.fixture
def jpeg() -> Image:
    y, x = np.mgrid[:400, :600]
    smooth_HWC = np.stack([x * 255 // 600, y * 255 // 400, (x + y) * 255 // 1000], -1).astype(np.uint8)
    out = io.BytesIO()
    Pillow.fromarray(smooth_HWC).save(out, "JPEG", quality=95)
    return Image(encoded=out.getvalue())


@pytest.mark.parametrize(
    ("size", "scale", "training", "least"),
    [(100, (0.25, 1.0), True, 200), (100, (0.25, 1.0), False, 100), (224, (0.9, 1.0), True, 237)],
)
def test_the_least_side_follows_from_the_smallest_crop(
    size: int, scale: tuple[float, float], training: bool, least: int
) -> None:
    views = Views(crop_scale=scale)
    assert ImagePreprocessing(size, views=views, scaled_decoding=True).min_decoded(training) == least
    assert ImagePreprocessing(size, views=views).min_decoded(training) == 0


@pytest.mark.parametrize(("scale", "decoded"), [((0.9, 1.0), (200, 300)), ((0.2, 1.0), (400, 600))])
def test_a_jpeg_is_decoded_small_where_enough_is_left(
    jpeg: Image, scale: tuple[float, float], decoded: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    view_into = images.view_into

    def watched(out_HWC: Pixels, pixels_HWC: Pixels, *rest: object) -> None:
        seen.append(pixels_HWC.shape[:2])
        view_into(out_HWC, pixels_HWC, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "view_into", watched)
    config = ImagePreprocessing(150, views=Views(crop_scale=scale), scaled_decoding=True)
    fill_pixels(np.empty((150, 150, 3), np.uint8), jpeg, "a", config, Draw(0, 0, "a"))
    assert seen == [decoded]


def test_scaled_decoding_changes_smooth_pixels_little(jpeg: Image) -> None:
    full, fast = (np.empty((96, 96, 3), np.uint8) for _ in range(2))
    fill_pixels(full, jpeg, "a", ImagePreprocessing(96), None)
    fill_pixels(fast, jpeg, "a", ImagePreprocessing(96, scaled_decoding=True), None)
    assert np.abs(full.astype(int) - fast).mean() < 1.0
    assert np.any(full != fast)


def test_a_picture_that_comes_several_times_is_read_once(jpeg: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    decode = images.decode

    def watched(image: Image, key: str, least: int) -> Pixels:
        reads.append(key)
        return decode(image, key, least)

    monkeypatch.setattr(images, "decode", watched)
    dark = Image(pixels_HWC=np.zeros((50, 40, 3), np.uint8), name="dark")
    asked = [dark, jpeg, dark, jpeg, jpeg]
    found = pixels_of(asked, ImagePreprocessing(32))
    assert len(reads) == 2
    expected = torch.cat([pixels_of([one], ImagePreprocessing(32)) for one in asked])
    assert torch.equal(found, expected) and found.stride() == expected.stride()
    rows = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)  # iterating makes new objects
    assert torch.equal(pixels_of(rows, ImagePreprocessing(32)), torch.from_numpy(rows).permute(0, 3, 1, 2))
