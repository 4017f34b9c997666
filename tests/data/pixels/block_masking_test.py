"""Blocks of hidden patches, beside the generator of transformers' FLAVA."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers.models.flava.image_processing_pil_flava import FlavaMaskingGenerator

from diptych.core.errors import ConfigError
from diptych.data.pixels.block_masking import BlockMasking, hidden_blocks


def masks(count: int, side: int = 14, config: BlockMasking | None = None) -> NDArray[np.bool_]:
    settings = config or BlockMasking()
    return np.stack([hidden_blocks(np.random.default_rng(i), side, side, settings) for i in range(count)])


def neighbours(hidden_NRC: NDArray[np.bool_]) -> float:
    """The share of a hidden patch's right neighbours that are hidden too."""
    both = hidden_NRC[:, :, 1:] & hidden_NRC[:, :, :-1]
    return float(both.sum() / hidden_NRC[:, :, :-1].sum())


def test_blocks_are_distributed_as_those_of_transformers() -> None:
    random.seed(0)
    generator = FlavaMaskingGenerator()
    theirs = np.stack([np.asarray(generator()).astype(bool) for _ in range(1500)])
    ours = masks(1500)
    hidden, expected = ours.sum((1, 2)), theirs.sum((1, 2))
    assert hidden.max() <= 75 and expected.max() <= 75
    assert hidden.mean() == pytest.approx(expected.mean(), abs=0.3)
    assert hidden.std() == pytest.approx(expected.std(), abs=0.5)
    assert neighbours(ours) == pytest.approx(neighbours(theirs), abs=0.01)
    # By place, rows and columns together: the middle is hidden more often than a corner. Five standard errors.
    difference = np.abs(ours.mean(0) - theirs.mean(0)).max()
    assert difference < 5 * np.sqrt(2 * 0.25 / 1500)
    assert ours.mean(0)[7, 7] > 1.5 * ours.mean(0)[0, 0]


def test_a_scattered_mask_has_fewer_hidden_neighbours() -> None:
    """What the comparison above measures: independent patches would have the ratio itself."""
    scattered = np.random.default_rng(0).random((500, 14, 14)) < 75 / 196
    assert neighbours(scattered) == pytest.approx(75 / 196, abs=0.02)
    assert neighbours(masks(500)) > 0.7


def test_a_mask_is_a_function_of_its_generator() -> None:
    again = hidden_blocks(np.random.default_rng(3), 14, 14, BlockMasking())
    assert np.array_equal(masks(4)[3], again)
    assert not np.array_equal(masks(4)[3], masks(4)[2])


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (4, 4), (8, 8), (7, 12)])
def test_other_grids_hide_their_share_and_always_something(rows: int, columns: int) -> None:
    config = BlockMasking()
    found = np.stack([hidden_blocks(np.random.default_rng(i), rows, columns, config) for i in range(300)])
    counts = found.sum((1, 2))
    assert counts.min() >= 1 and counts.max() <= config.most(rows * columns)
    assert counts.mean() > 0.8 * config.most(rows * columns)


def test_a_block_has_the_size_and_shape_that_is_asked() -> None:
    config = BlockMasking(ratio=0.5, least=0.5, aspect=1.0)  # 32 of 64 patches: a square of 6 x 6 is too large
    assert set(masks(50, 8, config).sum((1, 2)).tolist()) == {1}  # so one patch alone has to do
    config = BlockMasking(ratio=36 / 64, least=0.5, aspect=1.0)
    for hidden_RC in masks(50, 8, config):
        rows, columns = np.nonzero(hidden_RC.any(1))[0], np.nonzero(hidden_RC.any(0))[0]
        assert hidden_RC.sum() == 36 == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


@pytest.mark.parametrize("wrong", [{"ratio": 1.0}, {"ratio": 0.0}, {"least": 0.9}, {"aspect": 0.0}, {"aspect": 2.0}])
def test_what_is_no_share_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="block masking"):
        BlockMasking(**wrong)


def test_a_grid_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 x 9 patches leave no room"):
        hidden_blocks(np.random.default_rng(0), 1, 9, BlockMasking())
