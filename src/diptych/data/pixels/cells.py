"""Which pixels and which patches of a picture are hidden, when hiding is said in cells.

`fill_image` is told what to hide as a grid of cells over the prepared picture, the same for every model; a model hides
every patch that touches a hidden cell, so that nothing of a hidden cell is seen whatever the size of its patches.

N pictures, R rows and C columns of cells, H height and W width in pixels, h rows and w columns of patches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import DiptychError


def check_cells(hidden_NRC: Tensor, pictures: int, height: int, width: int) -> Tensor:
    """The cells as they are, or as a bool tensor of the same values.

    Raises:
        DiptychError: not one grid of cells a picture, no bool, or cells smaller than a pixel.
    """
    hidden_NRC = torch.as_tensor(hidden_NRC)
    shape = tuple(hidden_NRC.shape)
    if hidden_NRC.dtype != torch.bool or len(shape) != 3 or shape[0] != pictures:
        raise DiptychError(
            f"hidden cells are a bool array [{pictures} pictures, rows, columns]: got {hidden_NRC.dtype} {list(shape)}"
        )
    if not (1 <= shape[1] <= height and 1 <= shape[2] <= width):
        raise DiptychError(f"{shape[1]} x {shape[2]} cells do not fit a picture of {height} x {width} pixels")
    return hidden_NRC


def hidden_pixels(hidden_NRC: Tensor, height: int, width: int) -> Tensor:
    """[N, H, W] bool: pixel y lies in the row of cells floor(y R / H), and so for columns."""
    _, rows, columns = hidden_NRC.shape
    row_H = torch.arange(height, device=hidden_NRC.device) * rows // height
    column_W = torch.arange(width, device=hidden_NRC.device) * columns // width
    return hidden_NRC[:, row_H][:, :, column_W]


def hidden_patches(hidden_NRC: Tensor, height: int, width: int, patch: int) -> Tensor:
    """[N, h, w] bool: the patches of `patch` x `patch` pixels with a hidden pixel in them; the sides divide by it."""
    pixels_N1HW = hidden_pixels(hidden_NRC, height, width)[:, None].float()
    return F.max_pool2d(pixels_N1HW, patch)[:, 0] > 0
