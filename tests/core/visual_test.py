from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from diptych.core.errors import DataError
from diptych.core.visual import Clip, Image, as_image


def test_pictures_from_what_people_have(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    path = tmp_path / "p.png"
    PIL.Image.fromarray(pixels).save(path)
    assert as_image(path).encoded == path.read_bytes()
    assert as_image(str(path)).name == str(path)
    assert np.array_equal(as_image(PIL.Image.fromarray(pixels)).pixels_HWC, pixels)
    assert as_image(pixels).pixels_HWC is pixels
    assert as_image(b"xyz").encoded == b"xyz"


@pytest.mark.parametrize("value", [3, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "nowhere.jpg"])
def test_what_is_no_picture_is_refused(value: object) -> None:
    with pytest.raises(DataError):
        as_image(value)


def test_an_image_is_either_bytes_or_pixels() -> None:
    with pytest.raises(ValueError, match="either"):
        Image()
    with pytest.raises(ValueError, match="1 frames but 2 times"):
        Clip((Image(encoded=b""),), (0.0, 1.0))
