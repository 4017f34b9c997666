"""A picture carries the boxes that its sample knows."""

import numpy as np

from diptych.core.sample import Box, Sample
from diptych.core.visual import Image


def test_the_picture_of_a_sample_carries_its_boxes() -> None:
    plain = Image(pixels_HWC=np.zeros((4, 4, 3), np.uint8), name="p")
    boxes = (Box(0, 0, 2, 2, "cat"), Box(1, 1, 4, 4))
    found = Sample("k", (plain,), boxes=boxes).image
    assert found.boxes == boxes and found.pixels_HWC is plain.pixels_HWC and found.name == "p"
    assert Sample("k", (plain,)).image is plain
