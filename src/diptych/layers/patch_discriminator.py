"""A convolutional network that tells, patch by patch, real pictures from made ones.

Isola et al. 2016, "Image-to-Image Translation with Conditional Adversarial Networks" (pix2pix), arXiv 1611.07004,
section 3.2.2, as VQGAN uses it: convolutions of 4 x 4, the first of them halving the picture, and one logit for every
place of the last map.

Departure: group norm in the place of batch norm, so that what it says of a picture does not depend on the others.

B batch, C channels, H height, W width, h rows and w columns of patches.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

from diptych.core.errors import ConfigError

_SLOPE = 0.2
_STD = 0.02
"""Of fresh convolutions, as in pix2pix."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes.

    Attributes:
        width: channels of the first convolution; each halving doubles them, up to eight times as many.
        halvings: how often the picture is halved; with 3, as in the papers, a logit sees 70 x 70 pixels.
        groups: of every group norm.
    """

    width: int = 64
    halvings: int = 3
    groups: int = 8

    def __post_init__(self) -> None:
        if min(self.width, self.halvings, self.groups) < 1 or self.width % self.groups:
            raise ConfigError(
                f"a discriminator of width {self.width}, {self.halvings} halvings and {self.groups} groups: give at "
                f"least one halving, and a width that is divisible into the groups"
            )

    def require_room(self, image_size: int) -> None:
        """Refuses pictures in which no patch has room.

        Raises:
            ConfigError: they are too small for so many halvings.
        """
        if image_size < 3 * 2**self.halvings:
            raise ConfigError(
                f"a picture of {image_size} pixels is too small for {self.halvings} halvings of the discriminator: "
                f"{3 * 2**self.halvings} pixels are needed, or fewer halvings"
            )


class PatchDiscriminator(nn.Module):
    """Prepared pictures [B, 3, H, W] -> logits [B, 1, h, w], higher for what looks real."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        widths = [config.width * 2 ** min(step, 3) for step in range(config.halvings + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
        for step in range(1, config.halvings + 1):
            stride = 2 if step < config.halvings else 1
            layers += [
                nn.Conv2d(widths[step - 1], widths[step], 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(config.groups, widths[step]),
                nn.LeakyReLU(_SLOPE),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
        # Not a list of modules: FSDP2 keeps it in one unit, whose gradients may be taken within a pass.
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=_STD)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        out: Tensor = self.layers(pixels_BCHW)
        return out

    def as_constant(self, pixels_BCHW: Tensor) -> Tensor:
        """The same logits with a gradient for the pixels alone: what a generator learns from."""
        constant = {name: parameter.detach() for name, parameter in self.named_parameters()}
        out: Tensor = functional_call(self, constant, (pixels_BCHW,))
        return out
