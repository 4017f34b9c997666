"""Cells, pixels and patches against loops over single pixels."""

import pytest
import torch

from diptych.core.errors import DiptychError
from diptych.data.pixels.cells import check_cells, hidden_patches, hidden_pixels

HIDDEN = torch.rand(5, 3, 7, generator=torch.Generator().manual_seed(0)) < 0.4


def test_a_pixel_is_hidden_with_its_cell() -> None:
    found = hidden_pixels(HIDDEN, 32, 24)
    for n in range(5):
        for y in range(32):
            for x in range(24):
                assert bool(found[n, y, x]) == bool(HIDDEN[n, y * 3 // 32, x * 7 // 24])


@pytest.mark.parametrize("patch", [1, 4, 8])
def test_a_patch_is_hidden_with_any_of_its_pixels(patch: int) -> None:
    pixels, found = hidden_pixels(HIDDEN, 32, 24), hidden_patches(HIDDEN, 32, 24, patch)
    assert found.shape == (5, 32 // patch, 24 // patch)
    for n, i, j in torch.cartesian_prod(*(torch.arange(size) for size in found.shape)).tolist():
        inside = pixels[n, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
        assert bool(found[n, i, j]) == bool(inside.any())


def test_nothing_and_everything() -> None:
    assert not hidden_patches(torch.zeros(2, 4, 4, dtype=torch.bool), 16, 16, 4).any()
    assert hidden_patches(torch.ones(2, 4, 4, dtype=torch.bool), 16, 16, 4).all()


@pytest.mark.parametrize(
    ("hidden", "sentence"),
    [
        (HIDDEN.float(), r"a bool array \[5 pictures, rows, columns\]: got torch.float32 \[5, 3, 7\]"),
        (HIDDEN[:2], r"got torch.bool \[2, 3, 7\]"),
        (HIDDEN[0], r"got torch.bool \[3, 7\]"),
        (torch.ones(5, 3, 40, dtype=torch.bool), "3 x 40 cells do not fit a picture of 32 x 24 pixels"),
        (torch.ones(5, 0, 4, dtype=torch.bool), "0 x 4 cells do not fit"),
    ],
)
def test_what_is_no_grid_of_cells(hidden: torch.Tensor, sentence: str) -> None:
    with pytest.raises(DiptychError, match=sentence):
        check_cells(hidden, 5, 32, 24)
    assert check_cells(HIDDEN, 5, 32, 24) is HIDDEN
