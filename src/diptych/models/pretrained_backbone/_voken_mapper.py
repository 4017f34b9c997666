"""MiniGPT-5's feature mapper: what a language model says of a picture becomes what a diffusion model is told.

Zheng et al. 2023, arXiv 2310.02239, equation 3: two linear maps, then an encoder that reads the vokens' states and a
decoder of learned queries, one for every token of the text that the diffusion model would read.

N pictures, K vokens, D width of the language model, Q queries, X width of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError


@dataclass(frozen=True)
class MapperConfig:
    """Sizes; the defaults are the released code's.

    Attributes:
        depth: blocks of the encoder, and as many of the decoder.
        hidden: width of the MLPs over that of the text.
    """

    depth: int = 4
    heads: int = 8
    hidden: int = 4

    def __post_init__(self) -> None:
        if min(self.depth, self.heads, self.hidden) < 1:
            raise ConfigError(
                f"a mapper of {self.depth} blocks, {self.heads} heads and {self.hidden} times the width inside: give "
                f"at least 1 of each"
            )


class FeatureMapper(nn.Module):
    """Pre-norm blocks without dropout, a norm after the last of either side.

    Raises:
        ConfigError: the heads do not divide the width.
    """

    def __init__(self, config: MapperConfig, states: int, width: int, queries: int) -> None:
        super().__init__()
        if width % config.heads:
            raise ConfigError(f"mapper.heads {config.heads} do not divide the text's width of {width}")
        self.states = states
        self.into = nn.Sequential(nn.Linear(states, width), nn.GELU(), nn.Linear(width, width))
        self.queries_QX = nn.Parameter(torch.randn(queries, width))
        sizes = (width, config.heads, config.hidden * width, 0.0)
        encoder = nn.TransformerEncoderLayer(*sizes, batch_first=True, norm_first=True)
        decoder = nn.TransformerDecoderLayer(*sizes, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(encoder, config.depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, config.depth, nn.LayerNorm(width))
        for part in (self.encoder, self.decoder):
            for parameter in part.parameters():  # copies of one block would all begin alike
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)

    def forward(self, states_NKD: Tensor) -> Tensor:
        """[N, Q, X]."""
        queries_NQX = self.queries_QX.expand(len(states_NKD), -1, -1)
        out: Tensor = self.decoder(queries_NQX, self.encoder(self.into(states_NKD)))
        return out

    def nothing(self, pictures: int, vokens: int) -> Tensor:
        """What stands for no text [N, Q, X]: the mapped states are 0, in training as at sampling."""
        out: Tensor = self(self.queries_QX.new_zeros(pictures, vokens, self.states))
        return out
