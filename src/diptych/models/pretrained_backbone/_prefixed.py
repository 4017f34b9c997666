"""A vision tower, a connector and a language model as one: pictures become vectors that stand among words.

B conversations, T tokens, N pictures, Q vectors of a picture, D width of the language model, C channels, H height,
W width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.data.conversations import ConversationBatch
from diptych.layers.connectors import Connector
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._patch_features import PatchFeatures


@dataclass(frozen=True)
class Trained:
    """Which parts are trained."""

    tower: bool = False
    connector: bool = True
    language: bool = False

    def __post_init__(self) -> None:
        if not (self.tower or self.connector or self.language):
            raise ConfigError("nothing would be trained: switch the tower, the connector or the language model on")


class Prefixed(nn.Module):
    """Reads conversations."""

    def __init__(self, tower: PatchFeatures, connector: Connector, language: LanguageModel) -> None:
        super().__init__()
        self.tower, self.connector, self.language = tower, connector, language

    def set_trained(self, trained: Trained) -> None:
        """Freezes what is not trained; gradients go through a frozen language model all the same."""
        self.tower.trainable = trained.tower
        self.tower.requires_grad_(trained.tower)
        self.connector.requires_grad_(trained.connector)
        self.language.requires_grad_(trained.language)

    def see(self, pixels_NCHW: Tensor) -> Tensor:
        """Vectors [N, Q, D] of pictures."""
        out: Tensor = self.connector(self.tower(pixels_NCHW))
        return out

    def vectors(self, tokens_BT: Tensor, places_BT: Tensor, pixels_NCHW: Tensor) -> Tensor:
        """What the language model reads [B, T, D]: words, and pictures in their places, in order.

        Args:
            places_BT: bool, True at pictures' tokens.
        """
        x_BTD = self.language.embed(tokens_BT)
        if not len(pixels_NCHW):
            return x_BTD
        seen_PD = self.see(pixels_NCHW).flatten(0, 1).to(x_BTD.dtype)
        assert int(places_BT.sum()) == len(seen_PD), "as many places as pictures have vectors"
        return x_BTD.masked_scatter(places_BT[..., None], seen_PD)

    def forward(self, batch: ConversationBatch) -> Tensor:
        """States [B, T, D]."""
        x_BTD = self.vectors(batch.tokens_BT, batch.places_BT, batch.pixels_NCHW)
        out: Tensor = self.language(x_BTD, batch.lengths_B)
        return out

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        return self.language.logits(states)

    def train(self, mode: bool = True) -> Prefixed:
        """Frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in (self.tower, self.connector, self.language):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self
