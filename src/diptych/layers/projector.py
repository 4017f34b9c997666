"""The projection head of contrastive learning on augmented views.

Three linear layers with batch norm and a ReLU after the first two, as in SLIP's and CLIP-rocket's released code
(SimCLR, arXiv 2002.05709, has one hidden layer less). It runs on the gathered rows of the global batch.

N rows, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from diptych.layers.gathered_batch_norm import GatheredBatchNorm


class Projector(nn.Module):
    """Linear, batch norm, ReLU, linear, batch norm, ReLU, linear.

    Args:
        width: of the rows that come in.
        hidden: of both hidden layers.
        out: of the rows that go out.
    """

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            GatheredBatchNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            GatheredBatchNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, out),
        )

    def forward(self, rows_ND: Tensor) -> Tensor:
        """[N, out], not normalised.

        Raises:
            ConfigError: a single row in training.
        """
        out: Tensor = self.layers(rows_ND)
        return out
