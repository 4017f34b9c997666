"""A vision tower, a connector and a language model as one: pictures become vectors that stand among words.

B conversations, T tokens, N pictures, Q vectors of a picture, D width of the language model, C channels, H height,
W width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.layers.connectors import Connector
from diptych.models.pretrained_backbone._language_model import LanguageModel, PackingModel, Said
from diptych.models.pretrained_backbone._patch_features import PatchFeatures


@dataclass(frozen=True)
class Trained:
    """Which parts are trained.

    Attributes:
        language: all of the language model, or its adapter where it has one.
    """

    tower: bool = False
    connector: bool = True
    language: bool = False

    def __post_init__(self) -> None:
        if not (self.tower or self.connector or self.language):
            raise ConfigError("nothing would be trained: switch the tower, the connector or the language model on")


class Prefixed(nn.Module):
    """Reads conversations.

    Attributes:
        adapter: the names of the parameters in the language model that are trained in place of all of them; none where
            it has no adapter.
        room: tokens of a row in training, into which as many conversations are put as fit; 0 for a row each.
    """

    def __init__(
        self, tower: PatchFeatures, connector: Connector, language: LanguageModel, adapter: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.tower, self.connector, self.language, self.adapter = tower, connector, language, adapter
        self.room = 0

    def set_packed(self, room: int) -> None:
        """Has conversations share rows of so many tokens; 0 for a row each.

        Raises:
            ConfigError: the language model cannot tell them apart.
        """
        if room and not isinstance(self.language, PackingModel):
            raise ConfigError(
                "conversations cannot share rows in this language model: models of transformers are used as they are, "
                "and only Llama, on our own trunk, keeps them apart exactly; set packed to 0"
            )
        self.room = room

    def set_trained(self, trained: Trained) -> None:
        """Freezes what is not trained; gradients go through a frozen language model all the same."""
        self.tower.trainable = trained.tower
        self.tower.requires_grad_(trained.tower)
        self.connector.requires_grad_(trained.connector)
        for name, parameter in self.language.named_parameters():
            parameter.requires_grad_(trained.language and (not self.adapter or name in self.adapter))

    def see(self, pixels_NCHW: Tensor) -> Tensor:
        """Vectors [N, Q, D] of pictures."""
        out: Tensor = self.connector(self.tower(pixels_NCHW))
        return out

    def seen(self, batch: ConversationBatch) -> Tensor:
        """Vectors [N, Q, D] of a batch's pictures."""
        out: Tensor = self.connector(self.features(batch))
        return out

    def features(self, batch: ConversationBatch) -> Tensor:
        """The tower's features [N, S, C] of a batch's pictures; where they were cached, these."""
        if batch.features_NSC is not None:
            return batch.features_NSC
        out: Tensor = self.tower(batch.pixels_NCHW)
        return out

    def forward(self, batch: ConversationBatch) -> Said:
        """What is said of a batch: the language model reads words, and pictures in their places, in order."""
        x_BTD = self.language.embed(batch.tokens_BT)
        if any(batch.counts):
            seen_PD = self.seen(batch).flatten(0, 1).to(x_BTD.dtype)
            assert int(batch.places_BT.sum()) == len(seen_PD), "as many places as pictures have vectors"
            x_BTD = x_BTD.masked_scatter(batch.places_BT[..., None], seen_PD)
        if self.room and isinstance(self.language, PackingModel):
            return self.language.said_packed(x_BTD, batch.lengths_B, batch.labels_BT, self.room)
        return self.language.said(x_BTD, batch.lengths_B, batch.labels_BT)

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        return self.language.logits(states)

    def train(self, mode: bool = True) -> Prefixed:
        """Frozen parts stay in evaluation mode; so does a language model of which an adapter alone is trained."""
        super().train(mode)
        for part in (self.tower, self.connector, self.language):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        if self.adapter:
            self.language.eval()
        return self
