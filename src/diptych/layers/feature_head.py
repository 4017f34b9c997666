"""A head on features of a pretrained tower.

B batch, R rows, F feature width, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEAST_STD = 1e-3


class FeatureHead(nn.Module):
    """Standardised features, then an MLP with one hidden layer, or a linear layer.

    Args:
        features: F.
        hidden: width of the hidden layer; 0 for a linear head.
        width: D.
        dropout, input_dropout: of the hidden layer and of the features.
    """

    mean_F: Tensor
    std_F: Tensor

    def __init__(self, features: int, hidden: int, width: int, dropout: float, input_dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(features))
        self.register_buffer("std_F", torch.ones(features))
        layers: list[nn.Module] = [nn.Dropout(input_dropout)]
        if hidden:
            layers += [nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)]
        else:
            layers += [nn.Linear(features, width)]
        self.layers = nn.Sequential(*layers)

    def standardise_by(self, rows_RF: Tensor) -> None:
        """Sets mean and standard deviation to those of some features; saved with the weights."""
        self.mean_F.copy_(rows_RF.mean(0))
        self.std_F.copy_(rows_RF.std(0).clamp_min(_LEAST_STD))

    def forward(self, features_BF: Tensor) -> Tensor:
        """[B, D], not normalised."""
        out: Tensor = self.layers((features_BF - self.mean_F) / self.std_F)
        return out
