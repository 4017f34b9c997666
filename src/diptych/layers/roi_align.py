"""RoIAlign: the part of a feature map that lies in a box, as a square of fixed size.

He et al. 2017, "Mask R-CNN", arXiv 1703.06870, section 3: a box is cut into equal bins without rounding, and a bin is
the mean of bilinear samples in it. Positions are half-pixel exact (cell i covers [i, i + 1]), which others call
`aligned=True`.

Samples of a box lie on a grid along both axes, so bilinear interpolation is a product of two matrices, one an axis:
out = rows @ map @ columns^T. That makes it two batched matrix products, differentiable in the map and in the boxes.

B batch, R regions, C channels, H height, W width, S bins along a side, K samples of a bin along an axis, N cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.core.errors import ConfigError


def roi_align(map_BCHW: Tensor, boxes_BR4: Tensor, bins: int, samples: int = 2) -> Tensor:
    """What lies in each box, channels last: [B, R, S, S, C], rows before columns.

    Args:
        map_BCHW: a feature map.
        boxes_BR4: x0, y0, x1, y1 in cells of the map: [0, W] and [0, H]. A box that reaches further sees the edge
            repeated for up to one cell and zeros beyond.
        bins: S.
        samples: K; 0 for as many as a bin has cells, rounded up (adaptive).

    Raises:
        ConfigError: fewer than one bin or a negative number of samples.
    """
    if bins < 1 or samples < 0:
        raise ConfigError(f"RoIAlign with {bins} bins and {samples} samples: give 1 bin or more, and 0 samples or more")
    batch, channels, height, width = map_BCHW.shape
    exact = torch.promote_types(map_BCHW.dtype, torch.float32)  # places of half precision would be off by cells
    x0_BR, y0_BR, x1_BR, y1_BR = boxes_BR4.to(exact).unbind(-1)
    rows_BRSH = axis_weights(y0_BR, y1_BR, height, bins, samples).to(map_BCHW.dtype)
    columns_BRSW = axis_weights(x0_BR, x1_BR, width, bins, samples).to(map_BCHW.dtype)
    map_BHWC = map_BCHW.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    mixed = torch.bmm(rows_BRSH.flatten(1, 2), map_BHWC).view(batch, boxes_BR4.shape[1], bins, width, channels)
    return columns_BRSW[:, :, None] @ mixed


def axis_weights(begin_BR: Tensor, end_BR: Tensor, cells: int, bins: int, samples: int) -> Tensor:
    """How much each cell of one axis counts in each bin: [B, R, S, N].

    Args:
        begin_BR, end_BR: of the boxes, in cells.
        cells: N.
        samples: of a bin; 0 for adaptive, where boxes of different size have different numbers of them.
    """
    step_BR = (end_BR - begin_BR) / bins
    count_BR = torch.full_like(step_BR, samples) if samples else step_BR.detach().ceil().clamp(min=1)
    most = samples or (int(count_BR.max()) if count_BR.numel() else 1)
    places_K = torch.arange(most, dtype=step_BR.dtype, device=step_BR.device)
    inside_BRSK = ((places_K + 0.5) / count_BR[..., None])[:, :, None]
    bins_S1 = torch.arange(bins, dtype=step_BR.dtype, device=step_BR.device)[:, None]
    at_BRSK = begin_BR[..., None, None] + (bins_S1 + inside_BRSK) * step_BR[..., None, None] - 0.5
    counts_BRSK = (at_BRSK >= -1) & (at_BRSK <= cells) & (places_K < count_BR[..., None])[:, :, None]
    cells_N = torch.arange(cells, dtype=step_BR.dtype, device=step_BR.device)
    distance_BRSKN = (at_BRSK.clamp(0, cells - 1)[..., None] - cells_N).abs()
    weights_BRSKN = (1 - distance_BRSKN).clamp(min=0) * counts_BRSK[..., None]
    return weights_BRSKN.sum(3) / count_BR[..., None, None]
