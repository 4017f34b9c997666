"""RoIAlign against a loop over bins and samples, against torchvision, and by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.layers.roi_align import roi_align

BOXES = torch.tensor(
    [
        [[0.0, 0.0, 7.0, 5.0], [1.3, 0.7, 2.1, 4.9], [2.0, 1.0, 5.0, 4.0]],
        [[0.2, 0.1, 0.4, 0.3], [-0.6, -0.4, 7.5, 5.4], [5.0, 3.5, 7.0, 5.0]],
    ],
    dtype=torch.float64,
)


def feature_map(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bilinear(plane_HW: Tensor, y: float, x: float) -> float:
    """One sample, by the rules of the released code: zero beyond one cell outside, clamped to the outermost centres."""
    height, width = plane_HW.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = (1 - dx) * float(plane_HW[top, left]) + dx * float(plane_HW[top, right])
    lower = (1 - dx) * float(plane_HW[bottom, left]) + dx * float(plane_HW[bottom, right])
    return (1 - dy) * upper + dy * lower


def by_loops(plane_HW: Tensor, box: list[float], bins: int, samples: int) -> list[list[float]]:
    x0, y0, x1, y1 = box
    step_y, step_x = (y1 - y0) / bins, (x1 - x0) / bins
    many_y, many_x = samples or math.ceil(step_y), samples or math.ceil(step_x)

    def bin_mean(row: int, column: int) -> float:
        found = [
            bilinear(
                plane_HW,
                y0 + (row + (i + 0.5) / many_y) * step_y - 0.5,
                x0 + (column + (j + 0.5) / many_x) * step_x - 0.5,
            )
            for i in range(many_y)
            for j in range(many_x)
        ]
        return sum(found) / len(found)

    return [[bin_mean(row, column) for column in range(bins)] for row in range(bins)]


@pytest.mark.parametrize("samples", [0, 1, 2, 3])
@pytest.mark.parametrize("bins", [1, 2, 3])
def test_it_is_the_mean_of_bilinear_samples(bins: int, samples: int) -> None:
    map_BCHW = feature_map()
    found = roi_align(map_BCHW, BOXES, bins, samples)
    expected = torch.tensor(
        [
            [[by_loops(plane, box, bins, samples) for plane in picture] for box in boxes]
            for picture, boxes in zip(map_BCHW, BOXES.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(found, expected.permute(0, 1, 3, 4, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("samples", [0, 2])
def test_it_is_that_of_torchvision(samples: int) -> None:
    ops = pytest.importorskip("torchvision.ops", reason="torchvision is not installed")
    map_BCHW = feature_map()
    theirs = ops.roi_align(map_BCHW, list(BOXES), 2, sampling_ratio=samples or -1, aligned=True)
    found = roi_align(map_BCHW, BOXES, 2, samples).permute(0, 1, 4, 2, 3).flatten(0, 1)
    torch.testing.assert_close(found, theirs, rtol=1e-12, atol=1e-12)


def test_a_linear_map_gives_the_value_at_the_middle_of_each_bin() -> None:
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    map_BCHW = (3 * (x + 0.5) - 2 * (y + 0.5) + 1)[None, None]
    found = roi_align(map_BCHW, torch.tensor([[[2.0, 1.5, 6.0, 7.5]]]), 2, 2)[0, 0, :, :, 0]
    middle_y, middle_x = torch.tensor([3.0, 6.0]), torch.tensor([3.0, 5.0])
    torch.testing.assert_close(found, 3 * middle_x[None] - 2 * middle_y[:, None] + 1)


def test_the_whole_map_in_bins_of_whole_cells_is_average_pooling() -> None:
    map_BCHW = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    found = roi_align(map_BCHW, torch.tensor([[[0.0, 0.0, 6.0, 6.0]]]).expand(2, 1, 4), 3, 2)
    expected = torch.nn.functional.avg_pool2d(map_BCHW, 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(found[:, 0], expected)


@pytest.mark.parametrize("samples", [0, 2])
def test_gradients_of_the_map_and_of_the_boxes_are_right(samples: int) -> None:
    map_BCHW = feature_map()[:1, :2].requires_grad_()
    boxes = BOXES[:1].clone() + 0.013  # off the kinks of the interpolation, where there is no derivative
    assert torch.autograd.gradcheck(lambda some: roi_align(some, boxes, 2, samples), (map_BCHW,))
    boxes = torch.tensor([[[0.53, 0.61, 3.17, 3.43]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda some: roi_align(map_BCHW.detach(), some, 2, samples), (boxes,))


def test_a_region_depends_neither_on_the_others_nor_on_the_batch() -> None:
    map_BCHW = feature_map()
    together = roi_align(map_BCHW, BOXES, 2, 0)
    for b in range(2):
        for r in range(3):
            alone = roi_align(map_BCHW[b : b + 1], BOXES[b : b + 1, r : r + 1], 2, 0)
            torch.testing.assert_close(alone[0, 0], together[b, r], rtol=1e-12, atol=1e-12)


def test_no_regions_and_no_pictures_are_no_rows() -> None:
    assert roi_align(feature_map(), torch.zeros(2, 0, 4), 2, 0).shape == (2, 0, 2, 2, 3)
    assert roi_align(feature_map()[:0], torch.zeros(0, 3, 4), 2).shape == (0, 3, 2, 2, 3)


@pytest.mark.parametrize(("bins", "samples"), [(0, 2), (2, -1)])
def test_sizes_that_cannot_be_are_refused(bins: int, samples: int) -> None:
    with pytest.raises(ConfigError, match=f"{bins} bins and {samples} samples"):
        roi_align(feature_map(), BOXES, bins, samples)
