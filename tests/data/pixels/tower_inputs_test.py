"""Pictures for pretrained towers: as the folder's own processor in `transformers` prepares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image as Pillow

from diptych.core.errors import DataError
from diptych.data.pixels.tower_inputs import TowerImages, read_tower_images

HF: Any = transformers
NORMAL = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}


def picture(height: int, width: int) -> Any:
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (fine[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def write(folder: Path, **plain: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(NORMAL | plain))
    return folder


def normalised(images: TowerImages, pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (images.mean, images.std))
    return (pixels * images.scale - mean) / std


@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (24, 24)])
@pytest.mark.parametrize(
    "plain",
    [
        {"size": {"height": 20, "width": 28}, "resample": 2},
        {"size": {"height": 20, "width": 28}, "resample": 3, "do_normalize": False},
        {"size": {"shortest_edge": 26}, "crop_size": {"height": 20, "width": 22}, "do_center_crop": True,
         "resample": 3},
        {"size": {"shortest_edge": 26}, "crop_size": {"height": 26, "width": 20}, "do_center_crop": True,
         "resample": 2, "rescale_factor": 1 / 127.5},
    ],
)  # fmt: skip
def test_pixels_are_within_two_levels_of_the_librarys(
    tmp_path: Path, plain: dict[str, Any], shape: tuple[int, int]
) -> None:
    images = read_tower_images(write(tmp_path, **plain))
    theirs = HF.MobileNetV2ImageProcessorPil.from_pretrained(tmp_path)
    if "crop_size" not in plain:
        theirs.do_center_crop = False
    expected = theirs(Pillow.fromarray(picture(*shape)), return_tensors="pt").pixel_values
    found = normalised(images, images.pixels([picture(*shape)]))
    assert found.shape == expected.shape
    level = images.scale / min(images.std)
    assert float((found - expected).abs().max()) < 2.01 * level
    assert float((found - expected).abs().mean()) < 0.3 * level


def test_an_image_processor_within_a_whole_processor_is_read(tmp_path: Path) -> None:
    """Version 5 writes processor_config.json, and no preprocessor_config.json, when a processor is saved."""
    size = {"shortest_edge": 26}
    write(tmp_path, size=size, crop_size={"height": 20, "width": 22}, do_center_crop=True)
    expected = read_tower_images(tmp_path)
    inner = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    assert read_tower_images(tmp_path) == expected
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    with pytest.raises(DataError, match=r"it has no preprocessor_config\.json"):
        read_tower_images(tmp_path)
    write(tmp_path, size=size, crop_size={"height": 20, "width": 22}, do_center_crop=True)
    assert read_tower_images(tmp_path) == expected


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"size": {"height": 8, "width": 8}, "resample": 1}, "resample 1 is not offered"),
        ({"size": {"height": 8, "width": 8}, "image_mean": None}, "has no image_mean or no image_std"),
        ({"size": {"height": 8, "width": 8}, "do_resize": False}, "would keep different sizes"),
        ({"size": {"shortest_edge": 8}, "do_center_crop": False}, "would keep different sizes"),
        ({"size": {"shortest_edge": 8}, "crop_size": {"height": 9, "width": 8}}, "larger than the shorter side, 8"),
        ({"size": {"height": 9, "width": 9}, "crop_size": {"height": 8, "width": 8}}, "a resize to fixed sides"),
    ],
)
def test_steps_that_are_not_offered_are_refused(tmp_path: Path, plain: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_tower_images(write(tmp_path, **plain))


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size"')
    with pytest.raises(DataError, match=r"preprocessor_config\.json is truncated or not JSON"):
        read_tower_images(tmp_path)


def test_the_real_towers_pictures_are_the_librarys(shared_data: Path) -> None:
    folder = shared_data / "weights" / "mobilenet_v2_1.0_224"
    if not folder.is_dir():
        pytest.skip(f"no weights at {folder}")
    images = read_tower_images(folder)
    theirs = HF.AutoImageProcessor.from_pretrained(folder, backend="pil")
    expected = theirs(Pillow.fromarray(picture(300, 411)), return_tensors="pt").pixel_values
    found = normalised(images, images.pixels([picture(300, 411)]))
    assert found.shape == (1, 3, 224, 224)
    level = 2 / 255
    assert float((found - expected).abs().max()) < 2.01 * level
    assert float((found - expected).abs().mean()) < 0.3 * level


def test_a_mirrored_picture_is_the_picture_turned() -> None:
    plain, turned = (TowerImages(16, 20, 24, mirror=mirror).pixels([picture(30, 40)]) for mirror in (False, True))
    assert torch.equal(turned, plain.flip(3)) and not torch.equal(turned, plain)
