"""Views against Pillow, closed forms, and themselves."""

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter
from scipy import ndimage

from diptych.core.errors import ConfigError
from diptych.core.seeding import Draw
from diptych.core.visual import Pixels
from diptych.data.pixels import colour
from diptych.data.pixels.geometry import centre_crop_into, random_window, rotated, shorter_side_size, squash_into
from diptych.data.pixels.resize import Kernel, Window, resize_into, resized
from diptych.data.pixels.views import Views, view_into


@pytest.fixture(scope="module")
def photo() -> Pixels:
    """Like a photograph: strong at low frequencies, with an edge and some noise."""
    rng = np.random.default_rng(0)
    soft = Pillow.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375), Pillow.BICUBIC)
    pixels = np.array(soft).astype(np.int16)
    pixels[100:200, 200:300] += 60
    return np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)


def psnr(a: Pixels, b: Pixels) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def rng_of(key: str, purpose: str = "view") -> np.random.Generator:
    return Draw(7, 0, key).rng(purpose)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("window", [Window(0, 0, 500, 375), Window(13, 7, 470, 351), Window(40, 50, 90, 60)])
def test_resize_is_pillows_antialiased_one(photo: Pixels, kernel: Kernel, window: Window) -> None:
    x, y, w, h = window
    crop = Pillow.fromarray(photo[y : y + h, x : x + w])
    method = Pillow.Resampling.BICUBIC if kernel == "bicubic" else Pillow.Resampling.BILINEAR
    expected = np.asarray(crop.resize((224, 192), method))
    assert psnr(resized(photo, window, 192, 224, kernel), expected) > 60


def test_resize_writes_into_a_row_of_a_batch_and_nowhere_else(photo: Pixels) -> None:
    batch = np.zeros((3, 64, 64, 3), np.uint8)
    resize_into(batch[1], photo, Window(10, 20, 300, 200))
    assert np.array_equal(batch[1], resized(photo, Window(10, 20, 300, 200), 64, 64))
    assert not batch[0].any() and not batch[2].any()


def test_a_window_of_the_outputs_size_is_copied(photo: Pixels) -> None:
    assert np.array_equal(resized(photo, Window(11, 5, 64, 48), 48, 64), photo[5:53, 11:75])


def test_read_only_pixels_can_be_resized(photo: Pixels) -> None:
    frozen = photo.copy()
    frozen.flags.writeable = False
    window = Window(0, 0, 500, 375)
    assert np.array_equal(resized(frozen, window, 64, 64), resized(photo, window, 64, 64))


def test_random_windows_have_the_areas_and_shapes_asked_for() -> None:
    rng = np.random.default_rng(1)
    windows = [random_window(500, 375, (0.08, 1.0), (3 / 4, 4 / 3), rng) for _ in range(4000)]
    assert all(x >= 0 and y >= 0 and x + w <= 500 and y + h <= 375 for x, y, w, h in windows)
    areas = np.array([w * h / (500 * 375) for _, _, w, h in windows])
    ratios = np.array([w / h for _, _, w, h in windows])
    assert areas.min() > 0.079 and areas.max() <= 1.0
    assert ratios.min() > 0.74 and ratios.max() < 1.35
    # Large upright crops do not fit a wide picture; what fits keeps its distribution.
    area, ratio = rng.uniform(0.08, 1.0, 100_000), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 100_000))
    fits = (np.sqrt(area * 187_500 * ratio) <= 500) & (np.sqrt(area * 187_500 / ratio) <= 375)
    assert abs(areas.mean() - area[fits].mean()) < 0.015 and abs(areas.std() - area[fits].std()) < 0.015
    lefts = np.array([x / max(500 - w, 1) for x, _, w, _ in windows if w < 400])
    assert abs(lefts.mean() - 0.5) < 0.02 and lefts.min() < 0.02 and lefts.max() > 0.98


def test_a_shape_that_never_fits_falls_back_to_the_centre() -> None:
    assert random_window(1000, 10, (1.0, 1.0), (3 / 4, 4 / 3), rng_of("a")) == Window(493, 0, 13, 10)
    assert random_window(1, 1, (0.08, 0.08), (1.0, 1.0), rng_of("a")) == Window(0, 0, 1, 1)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (97, 331), (224, 224), (60, 40)])
def test_centre_crop_is_clips(photo: Pixels, size: tuple[int, int]) -> None:
    from transformers import CLIPImageProcessorPil

    width, height = size
    pixels = resized(photo, Window(0, 0, 500, 375), height, width)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 96}, crop_size={"height": 96, "width": 96}, do_normalize=False, do_rescale=False
    )
    expected = processor(Pillow.fromarray(pixels), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    out = np.empty((96, 96, 3), np.uint8)
    centre_crop_into(out, pixels)
    assert psnr(out, expected) > 55


def test_the_longer_side_is_truncated() -> None:
    assert shorter_side_size(500, 375, 224) == (298, 224)
    assert shorter_side_size(375, 500, 224) == (224, 298)


def test_squash_uses_everything(photo: Pixels) -> None:
    out = np.empty((96, 96, 3), np.uint8)
    squash_into(out, photo)
    assert psnr(out, np.asarray(Pillow.fromarray(photo).resize((96, 96), Pillow.Resampling.BICUBIC))) > 60


def test_rotation_is_pillows_inside_and_leaves_no_black_corner(photo: Pixels) -> None:
    turned = rotated(photo, 10.0)
    expected = np.asarray(Pillow.fromarray(photo).rotate(10.0, Pillow.Resampling.BILINEAR))
    assert turned.shape == photo.shape
    assert psnr(turned[120:250, 150:350], expected[120:250, 150:350]) > 50
    assert expected[0, 0].sum() == 0 and turned[0, 0].sum() > 0
    assert np.array_equal(rotated(photo, 0.0), photo)
    assert rotated(np.full((1, 9, 3), 77, np.uint8), 45.0).shape == (1, 9, 3)


def test_colour_factors_have_closed_forms(photo: Pixels) -> None:
    wide = photo.astype(np.float64)
    luma = np.asarray(Pillow.fromarray(photo).convert("L")).astype(np.float64)
    cases = [
        (colour.brightness(photo, 0.6), 0.6 * wide),
        (colour.contrast(photo, 0.5), 0.5 * wide + 0.5 * round(luma.mean())),
        (colour.saturation(photo, 1.4), 1.4 * wide - 0.4 * luma[..., None]),
    ]
    for changed, expected in cases:
        assert np.abs(changed - np.clip(expected, 0, 255)).max() <= 1.01
    for change in (colour.brightness, colour.contrast, colour.saturation):
        assert np.array_equal(change(photo, 1.0), photo)


def test_grey_is_luma(photo: Pixels) -> None:
    expected = photo @ np.array([0.299, 0.587, 0.114])
    assert np.abs(colour.grey(photo) - expected[..., None]).max() <= 1.0


def test_hue_turns_the_circle() -> None:
    red = np.full((2, 2, 3), (200, 40, 40), np.uint8)
    assert np.abs(colour.hue(red, 1 / 3).astype(int) - (40, 200, 40)).max() <= 4
    assert np.abs(colour.hue(red, -1 / 3).astype(int) - (40, 40, 200)).max() <= 4
    assert np.abs(colour.hue(red, 0.0).astype(int) - red).max() <= 3


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_gaussian(photo: Pixels, sigma: float) -> None:
    expected = ndimage.gaussian_filter(photo.astype(np.float64), (sigma, sigma, 0), mode="reflect", truncate=6.0)
    small = colour.blurred(photo, sigma)
    assert psnr(small, np.clip(np.rint(expected), 0, 255).astype(np.uint8)) > 50
    boxes = np.asarray(Pillow.fromarray(photo).filter(ImageFilter.GaussianBlur(sigma)))
    assert psnr(small[20:-20, 20:-20], boxes[20:-20, 20:-20]) > 35  # Pillow's is an approximation by boxes


FULL = Views((0.3, 1.0), flip=0.5, rotate=15, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2, blur=0.5)


@pytest.mark.parametrize("views", [Views(), FULL])
def test_views_depend_on_the_draw_alone(photo: Pixels, views: Views) -> None:
    out = np.zeros((4, 64, 64, 3), np.uint8)
    view_into(out[0], photo, views, rng_of("a"))
    view_into(out[1], photo, views, rng_of("b"))
    view_into(out[2], photo, views, rng_of("a"))
    view_into(out[3], photo, views, rng_of("a", "second view"))
    assert np.array_equal(out[0], out[2])
    assert not np.array_equal(out[0], out[1]) and not np.array_equal(out[0], out[3])


def test_the_default_view_is_one_crop(photo: Pixels) -> None:
    out = np.empty((64, 64, 3), np.uint8)
    view_into(out, photo, Views(), rng_of("a"))
    window = random_window(500, 375, (0.9, 1.0), (3 / 4, 4 / 3), rng_of("a"))
    assert np.array_equal(out, resized(photo, window, 64, 64))


def test_flips_come_at_their_rate(photo: Pixels) -> None:
    views, square = Views((1.0, 1.0), (1.0, 1.0), flip=0.25), photo[:64, :64]
    flipped = 0
    for key in range(400):
        out = np.empty((64, 64, 3), np.uint8)
        view_into(out, square, views, rng_of(str(key)))
        mirrored = np.array_equal(out, square[:, ::-1])
        assert mirrored or np.array_equal(out, square)
        flipped += mirrored
    assert 70 < flipped < 130


def test_a_probability_of_one_always_applies(photo: Pixels) -> None:
    out = np.empty((64, 64, 3), np.uint8)
    view_into(out, photo, Views(grey=1.0), rng_of("a"))
    assert np.array_equal(out[..., 0], out[..., 2])


@pytest.mark.parametrize(
    "wrong",
    [{"crop_scale": (0.0, 1.0)}, {"crop_scale": (1.0, 0.5)}, {"ratio": (2.0, 1.0)}, {"flip": 1.5}, {"hue": 0.6}],
)
def test_impossible_views_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Views(**wrong)  # type: ignore[arg-type]
