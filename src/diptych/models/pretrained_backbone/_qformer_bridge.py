"""A Q-Former as the bridge to a language model: its queries' outputs, mapped, are a soft prompt.

B pictures, S features of a picture, C their width, Q queries, T tokens, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from diptych.adapters.language import LanguageAdapterConfig
from diptych.core.errors import CheckpointError, ConfigError
from diptych.layers.connectors import Connector
from diptych.layers.qformer import QFormer, QFormerConfig
from diptych.models.pretrained_backbone._prefix_model import BridgeConfig


@dataclass(frozen=True)
class QFormerBridgeConfig(BridgeConfig):
    """Sizes; the defaults are BLIP-2's on a ViT-g.

    Attributes:
        qformer: with a vocabulary where it reads text beside the picture.
        normed: whether the features are normalised first; not where the tower ends with that norm (`transformers`).
    """

    qformer: QFormerConfig = field(default_factory=QFormerConfig)
    layer: int = -2
    special: int = 0
    normed: bool = True
    adapter: LanguageAdapterConfig = field(default_factory=LanguageAdapterConfig)

    def tokens(self, features: int) -> int:
        return self.qformer.queries

    def bridge(self, features: int, channels: int, width: int) -> QFormerBridge:
        require_width(self.qformer, channels)
        return QFormerBridge(self.qformer, width, self.normed)


def require_width(config: QFormerConfig, channels: int) -> None:
    """Raises a ConfigError where the Q-Former looks at features of another width."""
    if channels != config.image_width:
        raise ConfigError(f"the tower's features are {channels} wide, and qformer.image_width is {config.image_width}")


class QFormerBridge(Connector):
    """Norm, Q-Former, linear map."""

    def __init__(self, config: QFormerConfig, width: int, normed: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.image_width) if normed else nn.Identity()
        self.qformer = QFormer(config, speaks=False)
        self.map = nn.Linear(config.width, width)

    def forward(self, features_BSC: Tensor) -> Tensor:
        out: Tensor = self.map(self.qformer.see(self.norm(features_BSC)))
        return out

    def told(self, features_BSC: Tensor, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """The same where the queries are told a text, of a Q-Former with a vocabulary."""
        out: Tensor = self.map(self.qformer.match(self.norm(features_BSC), tokens_BT, lengths_B))
        return out

    def take_first_stage(self, state: Mapping[str, Tensor]) -> None:
        """Norm and Q-Former of a first stage's task; the map stays as it is.

        Raises:
            CheckpointError: a weight is not there, or of another shape.
        """
        for name, parameter in self.state_dict().items():
            if name.startswith("map."):
                continue
            given = state.get(f"model.{name}")
            if given is None:
                raise CheckpointError(f"the first stage has no weight {name}")
            if given.shape != parameter.shape:
                raise CheckpointError(
                    f"the first stage's weight {name} is {tuple(given.shape)}, here it is {tuple(parameter.shape)}"
                )
            parameter.copy_(given)
