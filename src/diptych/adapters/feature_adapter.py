"""A small network behind a frozen tower, mixed with what the tower says.

CLIP-Adapter, Gao et al. 2021, "CLIP-Adapter: Better Vision-Language Models with Feature Adapters", arXiv 2110.04544:

    f* = ratio A(f) + (1 - ratio) f,    A(f) = ReLU(W_2 ReLU(W_1 f))

with W_1 down to a quarter of the width and W_2 up again, neither with a bias; f* is normalised again where it is
compared. The adapter stands on the picture's side, which is what the paper found best.

B batch, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from diptych.core.errors import ConfigError


class FeatureAdapter(nn.Module):
    """Width / reduction hidden units; ratio 0 is the tower alone."""

    def __init__(self, width: int, reduction: int = 4, ratio: float = 0.2) -> None:
        super().__init__()
        if not 0 <= ratio <= 1 or not 1 <= reduction <= width:
            raise ConfigError(
                f"ratio {ratio} is to be from 0 (the tower alone) to 1 (the adapter alone), and reduction {reduction} "
                f"from 1 to the width {width}"
            )
        self.ratio = ratio
        self.down = nn.Linear(width, width // reduction, bias=False)
        self.up = nn.Linear(width // reduction, width, bias=False)

    def forward(self, feature_BD: Tensor) -> Tensor:
        """[B, D], not normalised."""
        adapted_BD = self.up(self.down(feature_BD).relu()).relu()
        out: Tensor = self.ratio * adapted_BD + (1 - self.ratio) * feature_BD
        return out
