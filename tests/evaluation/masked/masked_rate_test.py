"""Grey cells, and the rate of what is left of pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.visual import Image
from diptych.evaluation.masked.masked_rate import (
    GREY,
    Resolution,
    hidden_cells,
    masked_vectors,
    rate_at,
    resolution_of,
    with_grey_cells,
)

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def pictures(number: int, seed: int) -> list[Image]:
    """4 x 4 cells of 2 x 2 pixels, each of one random brightness."""
    cells = np.random.default_rng(seed).integers(0, 256, (number, 4, 4), dtype=np.uint8)
    pixels = cells.repeat(2, axis=1).repeat(2, axis=2)
    return [Image(pixels_HWC=np.stack([one] * 3, axis=2)) for one in pixels]


def cell_means(images: list[Image]) -> Tensor:
    """An encoder that tells the brightness of every cell: the rate of its vectors is what is visible."""
    rows = [image.pixels_HWC[::2, ::2, 0].reshape(-1) for image in images if image.pixels_HWC is not None]
    return torch.tensor(np.stack(rows)).double() / 255


def test_larger_shares_hide_all_that_smaller_ones_do() -> None:
    hidden = [hidden_cells(share, 4, 0) for share in SHARES]
    assert [int(one.sum()) for one in hidden] == [0, 4, 8, 12, 16]
    for small, large in itertools.pairwise(hidden):
        assert (large | ~small).all()
    assert (hidden_cells(0.5, 4, 0) == hidden[2]).all() and (hidden_cells(0.5, 4, 1) != hidden[2]).any()


def test_cells_become_grey_and_nothing_else_does() -> None:
    (picture,) = pictures(1, 0)
    before = picture.pixels_HWC.copy()  # type: ignore[union-attr]
    hidden_RC = hidden_cells(0.25, 4, 0)
    found = with_grey_cells(picture, hidden_RC).pixels_HWC
    of_pixels = hidden_RC.repeat(2, axis=0).repeat(2, axis=1)
    assert found is not None and (found[of_pixels] == GREY).all() and (found[~of_pixels] == before[~of_pixels]).all()
    assert (picture.pixels_HWC == before).all()


def test_cells_of_a_picture_that_they_do_not_divide() -> None:
    hidden_RC = np.array([[True, False, False], [False, False, True]])
    found = with_grey_cells(Image(pixels_HWC=np.zeros((5, 7, 3), np.uint8)), hidden_RC).pixels_HWC
    assert found is not None
    assert (found[..., 0] == GREY).astype(int).tolist() == [[1, 1, 1, 0, 0, 0, 0]] * 3 + [[0, 0, 0, 0, 0, 1, 1]] * 2


def test_the_rate_falls_in_step_with_what_is_hidden() -> None:
    """A visible cell is an axis of variance 1 / 12, a hidden one is none.

    The axes mix the cells' uniform numbers, so each is nearly Gaussian: 1/2 log2(2 pi e / 12) + log2 8 = 3.25 bits.
    """
    vectors = masked_vectors(cell_means, pictures(1600, 1), SHARES, 4, 0)
    resolution = Resolution(1 / 8, 16)
    rates = [rate_at(one.z_ND[:800], one.z_ND[800:], resolution).value for one in vectors]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0.0
    for share, rate in zip(SHARES, rates, strict=True):
        assert rate == pytest.approx(16 * (1 - share) * 3.2546, rel=0.02)


def test_a_resolution_is_relative_to_the_vectors() -> None:
    z_ND = torch.randn(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = resolution_of(z_ND, 4, 0.5)
    assert found.step == pytest.approx(0.5 * float((z_ND - z_ND.mean(0)).square().mean().sqrt()), abs=1e-9)
    assert rate_at(z_ND[:250], z_ND[250:], found).value == pytest.approx(
        rate_at(9 * z_ND[:250], 9 * z_ND[250:], resolution_of(9 * z_ND, 4, 0.5)).value, abs=0.01
    )
    assert resolution_of(torch.ones(5, 3), 4, 0.5).step == 1.0


@pytest.mark.parametrize(("share", "side"), [(-0.1, 4), (1.1, 4), (0.5, 0)])
def test_shares_and_cells_that_are_none_are_refused(share: float, side: int) -> None:
    with pytest.raises(ConfigError, match="a share between 0 and 1 of at least one cell"):
        hidden_cells(share, side, 0)
