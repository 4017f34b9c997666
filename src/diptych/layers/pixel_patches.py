"""Pictures as rows of patches of pixels, and back.

B batch, C channels, H height, W width, P patches, E values of a patch (C x size x size).
"""

from __future__ import annotations

from torch import Tensor

from diptych.core.errors import ConfigError


def patchify(image_BCHW: Tensor, size: int) -> Tensor:
    """[B, P, E]: patches in raster order, each channel by channel, as a patch embedding reads them.

    Raises:
        ConfigError: a side is not divisible by the size of a patch.
    """
    batch, channels, height, width = image_BCHW.shape
    if height % size or width % size:
        raise ConfigError(f"a picture of {height}x{width} does not divide into patches of {size}")
    cut = image_BCHW.reshape(batch, channels, height // size, size, width // size, size)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(patches_BPE: Tensor, size: int, rows: int, columns: int) -> Tensor:
    """The pictures [B, C, rows * size, columns * size] of such patches."""
    batch, _, values = patches_BPE.shape
    cut = patches_BPE.reshape(batch, rows, columns, values // size**2, size, size)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(batch, values // size**2, rows * size, columns * size)


def covered(image_BCHW: Tensor, hidden_BP: Tensor, size: int) -> Tensor:
    """Normalised pictures with the mean colour, which is 0, in place of hidden patches.

    Args:
        hidden_BP: bool, patches in raster order.
    """
    hidden_BRC = hidden_BP.view(len(hidden_BP), image_BCHW.shape[-2] // size, image_BCHW.shape[-1] // size)
    pixels_BHW = hidden_BRC.repeat_interleave(size, 1).repeat_interleave(size, 2)
    return image_BCHW.masked_fill(pixels_BHW[:, None], 0)
