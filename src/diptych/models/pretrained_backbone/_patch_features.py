"""A pretrained vision tower whose output is the features of a picture's patches.

B pictures, S features of each, C their width, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.errors import CheckpointError
from diptych.layers.pretrained import Tower


class PatchFeatures(Tower):
    """The hidden states of a tower at a layer, without its class token.

    Args:
        backbone: takes `pixel_values` [B, 3, H, W].
        mean, std: of pixels in [0, 1], by channel.
        layer: -1 for the last states, -2 for those before the last block (LLaVA), and so on.
        special: tokens before the patches, which are left out.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(
        self, backbone: nn.Module, trainable: bool = False, mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5), layer: int = -1, special: int = 1,
    ) -> None:  # fmt: skip
        pooler = getattr(backbone, "pooler", None)
        if isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
            backbone.pooler = None  # type: ignore[assignment]  # nothing here reads it, so nothing would train it
        super().__init__(backbone, trainable)
        self.layer, self.special = layer, special
        self.register_buffer("mean_C11", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """[B, S, C] of uint8 pixels; a floating-point tensor is taken as normalised already."""
        if not pixels_BCHW.is_floating_point():
            pixels_BCHW = self.prepared(pixels_BCHW)
        if not len(pixels_BCHW):
            return self.none(pixels_BCHW)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trainable):
            found: Any = self.backbone(pixel_values=pixels_BCHW, output_hidden_states=self.layer != -1)
        hidden: Tensor = found.last_hidden_state if self.layer == -1 else found.hidden_states[self.layer]
        if hidden.ndim == 4:  # a feature map [B, C, H, W]: its places are its features
            return hidden.flatten(2).transpose(1, 2)
        return hidden[:, self.special :]

    def prepared(self, pixels_BCHW: Tensor) -> Tensor:
        """uint8 pixels as the tower's weights expect them; the mean colour is 0."""
        return (pixels_BCHW.to(self.mean_C11.dtype) / 255 - self.mean_C11) / self.std_C11

    def none(self, like: Tensor) -> Tensor:
        """Of no picture."""
        return like.new_zeros(0, *self.shape(like.shape[-1]))

    @torch.no_grad()
    def shape(self, image_size: int) -> tuple[int, int]:
        """S and C of square pictures of this side.

        Raises:
            CheckpointError: the tower takes no such pictures.
        """
        place = self.mean_C11
        try:
            found = self(torch.zeros(1, 3, image_size, image_size, device=place.device, dtype=place.dtype))
        except (ValueError, RuntimeError) as error:
            reason = f"{error}".partition("\n")[0]
            raise CheckpointError(f"the vision tower takes no pictures of {image_size} pixels: {reason}") from error
        return found.shape[1], found.shape[2]
