"""Hidden parts of pictures, predicted as codes and painted by the codebook's decoder.

B batch, H height, W width, P patches, G x G their grid, R x C cells.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.data.pixels.cells import hidden_patches, hidden_pixels
from diptych.data.pixels.images import ImagePreprocessing
from diptych.models.image_tokenizer.vq import VqModel
from diptych.models.masked._flava_module import Flava, patches_of


def painted(
    model: Flava,
    settings: ImagePreprocessing,
    pixels_BCHW: Tensor,
    tokens_BT: Tensor,
    lengths_B: Tensor,
    hidden_BRC: Tensor,
) -> Tensor:
    """uint8 pictures [B, 3, H, W]: predicted pixels in the hidden cells, their own elsewhere.

    Codes of visible patches are those of the picture with its hidden patches in the mean colour of the others: a code
    sees beyond its patch, and nothing of what is hidden may come through.

    Args:
        pixels_BCHW: uint8, or prepared floating point pixels.
        hidden_BRC: bool.

    Raises:
        ConfigError: the codebook makes no pictures.
    """
    if not isinstance(model.codebook, VqModel):
        raise ConfigError("this model's codebook tells codes and makes no pictures of them")
    shown_BCHW, grid = as_uint8(pixels_BCHW, settings), model.config.vision.grid
    height, width = shown_BCHW.shape[-2:]
    hidden_BP = hidden_patches(hidden_BRC, height, width, model.config.vision.patch_size).flatten(1)
    codes_BP = model.codes(_blanked(shown_BCHW, hidden_BP, grid))
    states_BSD = model.fuse(pixels_BCHW, hidden_BP, tokens_BT, lengths_B)
    asked_MD = patches_of(states_BSD, hidden_BP.shape[1])[hidden_BP]
    codes_BP[hidden_BP] = model.mmm_image(model.fusion.norm_post(asked_MD)).argmax(-1)
    made_BCHW = _resized(model.codebook.decode(codes_BP.reshape(-1, grid, grid)), height, width)
    return torch.where(hidden_pixels(hidden_BRC, height, width)[:, None], made_BCHW, shown_BCHW)


def _resized(share_BCHW: Tensor, height: int, width: int) -> Tensor:
    """uint8 pictures of this size, of pixels in [0, 1]."""
    values_BCHW = share_BCHW.float()
    if values_BCHW.shape[-2:] != (height, width):
        values_BCHW = F.interpolate(values_BCHW, (height, width), mode="bicubic", antialias=True)
    return (values_BCHW * 255).round().clamp(0, 255).to(torch.uint8)


def as_uint8(pixels_BCHW: Tensor, settings: ImagePreprocessing) -> Tensor:
    """Pixels as they were before they were prepared."""
    if pixels_BCHW.dtype == torch.uint8:
        return pixels_BCHW
    mean, std = (pixels_BCHW.new_tensor(values)[:, None, None] for values in (settings.mean, settings.std))
    return ((pixels_BCHW * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _blanked(pixels_BCHW: Tensor, hidden_BP: Tensor, grid: int) -> Tensor:
    """Pictures with hidden patches in the mean colour of the visible ones; in grey where nothing is visible."""
    patch = pixels_BCHW.shape[-1] // grid
    hidden_B1HW = hidden_BP.reshape(-1, 1, grid, grid).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    seen = (~hidden_B1HW).sum((2, 3), keepdim=True)
    mean = (pixels_BCHW.float() * ~hidden_B1HW).sum((2, 3), keepdim=True) / seen.clamp(min=1)
    colour = torch.where(seen > 0, mean, torch.full_like(mean, 127.5)).round().to(torch.uint8)
    return torch.where(hidden_B1HW, colour, pixels_BCHW)
