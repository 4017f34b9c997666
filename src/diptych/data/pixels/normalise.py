"""From uint8 pixels to what a model reads, without fresh memory.

B batch, C channels, H height, W width. Training normalises on the device; this is for consumers that want float32
batches from the processor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normalise(pixels_BCHW: Tensor, mean: Sequence[float], std: Sequence[float], out: Tensor | None = None) -> Tensor:
    """(pixels / 255 - mean) / std, by channel.

    Picture by picture, so that the second pass finds the first one's result in the cache; and on channels-last
    memory by rows of interleaved channels, which vectorises where a broadcast over three channels does not.

    Args:
        pixels_BCHW: uint8.
        mean, std: of values in [0, 1], one a channel.
        out: [B, C, H, W] float32 to write to; by default new, with the strides of the pixels.

    Returns:
        float32 [B, C, H, W].
    """
    scale_C = 1 / (255 * torch.tensor(std, dtype=torch.float32))
    shift_C = -torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32)
    out_BCHW = torch.empty_like(pixels_BCHW, dtype=torch.float32) if out is None else out
    if _interleaved(pixels_BCHW) and _interleaved(out_BCHW):
        width = pixels_BCHW.shape[3]
        scale, shift = scale_C.repeat(width), shift_C.repeat(width)
        rows = zip(out_BCHW.permute(0, 2, 3, 1).flatten(2), pixels_BCHW.permute(0, 2, 3, 1).flatten(2), strict=True)
    else:
        scale, shift = scale_C[:, None, None], shift_C[:, None, None]
        rows = zip(out_BCHW, pixels_BCHW, strict=True)
    for target, source in rows:
        target.copy_(source)
        torch.addcmul(shift, target, scale, out=target)
    return out_BCHW


def _interleaved(values_BCHW: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side (the channels-last memory format)."""
    return values_BCHW.is_contiguous(memory_format=torch.channels_last) and not values_BCHW.is_contiguous()
