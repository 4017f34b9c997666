"""A head on features of a pretrained tower.

B batch, R rows, F feature width, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.layers.keyed_dropout import keyed_dropout

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
        self.hidden = nn.Linear(features, hidden) if hidden else None
        self.out = nn.Linear(hidden or features, width)
        self.dropout, self.input_dropout = dropout, input_dropout

    def standardise_by(self, rows_RF: Tensor) -> None:
        """Sets mean and standard deviation to those of some features; saved with the weights."""
        self.mean_F.copy_(rows_RF.mean(0))
        self.std_F.copy_(rows_RF.std(0).clamp_min(_LEAST_STD))

    def forward(self, features_BF: Tensor, seeds_B: Tensor | None = None) -> Tensor:
        """[B, D], not normalised.

        Args:
            seeds_B: of the samples; with them, and in training mode, there is dropout.
        """
        x_BF = self._dropped((features_BF - self.mean_F) / self.std_F, self.input_dropout, seeds_B, "features")
        if self.hidden is not None:
            x_BF = self._dropped(F.gelu(self.hidden(x_BF)), self.dropout, seeds_B, "hidden")
        out_BD: Tensor = self.out(x_BF)
        return out_BD

    def _dropped(self, x_BF: Tensor, probability: float, seeds_B: Tensor | None, purpose: str) -> Tensor:
        if seeds_B is None or not self.training:
            return x_BF
        return keyed_dropout(x_BF, probability, seeds_B, purpose)
