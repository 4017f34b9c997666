"""From the features of a picture to vectors that a language model reads: the bridge, and how many they are.

B pictures, S features of a picture, C their width, Q vectors, D width of the language model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import ConfigError
from diptych.layers.attention import attend
from diptych.layers.qformer import QFormer, QFormerConfig
from diptych.layers.query_pool import QueryPool


class Connector(nn.Module, ABC):
    """[B, S, C] -> [B, Q, D]."""

    @abstractmethod
    def forward(self, features_BSC: Tensor) -> Tensor:
        """[B, Q, D]."""


Kind = Literal["linear", "mlp", "pooled", "average", "attention", "resampler", "qformer", "abstractor", "mapl"]
_SQUARE = ("average", "abstractor")
_WORD = 0.02
"""Root mean square of a language model's word vectors as they begin, with us and in `transformers`."""


@dataclass(frozen=True)
class ConnectorConfig:
    """Which connector, and its sizes.

    Attributes:
        kind: "linear", a map of each feature (MiniGPT-4, the first LLaVA); "mlp", two maps with GELU between them
            (LLaVA-1.5, arXiv 2310.03744); "pooled", one map of the mean feature to all Q vectors (Frozen, arXiv
            2106.13884); "average", means over a smaller grid, then a map, and "attention", learned
            queries that attend once (both MM1, arXiv 2403.09611, section 3.2); "resampler" (Flamingo, arXiv
            2204.14198); "qformer" (BLIP-2, arXiv 2301.12597: a norm, a Q-Former of queries alone, a map); "abstractor"
            (C-Abstractor: Honeybee, arXiv 2312.06742); "mapl" (arXiv 2210.07179).
        adjacent: of "linear": features that are put side by side first, in raster order (MiniGPT-v2: 4).
        queries: Q of all but the first two; a square number where they keep a grid.
        depth: blocks of "resampler", "qformer", "abstractor" (on each side of its mean) and "mapl".
        heads: of attention.
        hidden: width inside "qformer", "abstractor" and "mapl".
    """

    kind: Kind = "mlp"
    adjacent: int = 1
    queries: int = 64
    depth: int = 2
    heads: int = 4
    hidden: int = 128

    def __post_init__(self) -> None:
        if min(self.adjacent, self.queries, self.depth, self.heads, self.hidden) < 1:
            raise ConfigError(f"every size of a connector must be at least 1: {self}")

    def tokens(self, features: int) -> int:
        """Q for S features.

        Raises:
            ConfigError: so many cannot be taken.
        """
        if self.kind == "mlp":
            return features
        if self.kind == "linear":
            if features % self.adjacent:
                raise ConfigError(f"{features} features are not divisible by connector.adjacent {self.adjacent}")
            return features // self.adjacent
        if self.kind in _SQUARE:
            for name, count in (("connector.queries", self.queries), ("features", features)):
                if round(count**0.5) ** 2 != count:
                    raise ConfigError(f"'{self.kind}' keeps a square grid, and {name} {count} is no square number")
        return self.queries

    def build(self, features: int, channels: int, width: int) -> Connector:
        """With fresh weights: S, C, D."""
        count = self.tokens(features)
        side = round(count**0.5)
        match self.kind:
            case "linear":
                return _Linear(self.adjacent, channels, width)
            case "mlp":
                return _Mlp(channels, width)
            case "pooled":
                return _Pooled(count, channels, width)
            case "average":
                return _AveragePool(side, channels, width)
            case "attention":
                return _AttentionPool(count, self.heads, channels, width)
            case "resampler":
                return Resampler(count, self.depth, self.heads, channels, width)
            case "qformer":
                return _Queries(self, channels, width)
            case "abstractor":
                return _Abstractor(side, self.depth, self.hidden, channels, width)
            case "mapl":
                return _Mapl(self, channels, width)


class _Linear(Connector):
    def __init__(self, adjacent: int, channels: int, width: int) -> None:
        super().__init__()
        self.adjacent = adjacent
        self.map = _word_sized(nn.Linear(adjacent * channels, width))

    def forward(self, features_BSC: Tensor) -> Tensor:
        rows, count, channels = features_BSC.shape
        out: Tensor = self.map(features_BSC.reshape(rows, count // self.adjacent, self.adjacent * channels))
        return out


class _Mlp(Connector):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(channels, width), nn.Linear(width, width)

    def forward(self, features_BSC: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(features_BSC)))
        return out


class _Pooled(Connector):
    """What there is in the picture, without where: a prefix of the language model."""

    def __init__(self, queries: int, channels: int, width: int) -> None:
        super().__init__()
        self.queries = queries
        self.map = _word_sized(nn.Linear(channels, queries * width))

    def forward(self, features_BSC: Tensor) -> Tensor:
        out: Tensor = self.map(features_BSC.mean(1))
        return out.view(len(out), self.queries, -1)


class _AveragePool(Connector):
    def __init__(self, side: int, channels: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.map = nn.Linear(channels, width)

    def forward(self, features_BSC: Tensor) -> Tensor:
        out: Tensor = self.map(F.adaptive_avg_pool2d(_grid(features_BSC), self.side).flatten(2).transpose(1, 2))
        return out


class _AttentionPool(Connector):
    def __init__(self, queries: int, heads: int, channels: int, width: int) -> None:
        super().__init__()
        self.pool = QueryPool(width, channels, heads, queries)

    def forward(self, features_BSC: Tensor) -> Tensor:
        out: Tensor = self.pool(features_BSC)
        return out


class Resampler(Connector):
    """Flamingo's perceiver resampler (section 3.1.1): learned latents attend to the features and to themselves."""

    def __init__(self, queries: int, depth: int, heads: int, channels: int, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(channels, width) if channels != width else nn.Identity()
        self.latents_QD = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.blocks = nn.ModuleList(_ResamplerBlock(width, heads, 4) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, features_BSC: Tensor) -> Tensor:
        features_BSD = self.into(features_BSC)
        x_BQD = self.latents_QD.expand(len(features_BSD), -1, -1)
        for block in self.blocks:
            x_BQD = block(x_BQD, features_BSD)
        out: Tensor = self.norm(x_BQD)
        return out


class _ResamplerBlock(nn.Module):
    """Queries of the latents; keys and values of the features and the latents together."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"width {width} is not divisible by {heads} heads")
        self.heads = heads
        self.norm_features, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden * width, bias=False),
            nn.GELU(),
            nn.Linear(hidden * width, width, bias=False),
        )

    def forward(self, x_BQD: Tensor, features_BSD: Tensor) -> Tensor:
        latents_BQD = self.norm_latents(x_BQD)
        seen = torch.cat([self.norm_features(features_BSD), latents_BQD], dim=1)
        k, v = self.key_value(seen).chunk(2, dim=-1)
        q, k, v = (self._split(part) for part in (self.query(latents_BQD), k, v))
        x_BQD = x_BQD + self.out(attend(q, k, v, None).transpose(1, 2).flatten(2))
        out: Tensor = x_BQD + self.mlp(x_BQD)
        return out

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.view(*x_BTD.shape[:2], self.heads, x_BTD.shape[2] // self.heads).transpose(1, 2)


class _Queries(Connector):
    """BLIP-2's way of asking a picture; one that is trained by itself first is a model of its own (blip2.py)."""

    def __init__(self, config: ConnectorConfig, channels: int, width: int) -> None:
        super().__init__()
        if config.hidden % config.heads:
            raise ConfigError(f"connector.hidden {config.hidden} is not divisible by {config.heads} heads")
        hidden = config.hidden
        sizes = QFormerConfig(config.queries, hidden, config.depth, config.heads, 4 * hidden, channels, vocabulary=0)
        self.norm = nn.LayerNorm(channels)
        self.qformer = QFormer(sizes, speaks=False)
        self.map = nn.Linear(hidden, width)

    def forward(self, features_BSC: Tensor) -> Tensor:
        out: Tensor = self.map(self.qformer.see(self.norm(features_BSC)))
        return out


class _Abstractor(Connector):
    """Convolutions, a mean over a smaller grid, convolutions, then an MLP."""

    def __init__(self, side: int, depth: int, hidden: int, channels: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.into = nn.Conv2d(channels, hidden, 1)
        self.before = nn.Sequential(*(_ConvBlock(hidden) for _ in range(depth)))
        self.after = nn.Sequential(*(_ConvBlock(hidden) for _ in range(depth)))
        self.out = _Mlp(hidden, width)

    def forward(self, features_BSC: Tensor) -> Tensor:
        x_BCHW = self.before(self.into(_grid(features_BSC)))
        x_BCHW = self.after(F.adaptive_avg_pool2d(x_BCHW, self.side))
        out: Tensor = self.out(x_BCHW.flatten(2).transpose(1, 2))
        return out


class _ConvBlock(nn.Module):
    """A residual block with squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(width, max(width // 4, 1), 1), nn.Conv2d(max(width // 4, 1), width, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv2(F.silu(self.conv1(x_BCHW)))
        gate = self.excite(F.silu(self.squeeze(h_BCHW.mean((2, 3), keepdim=True)))).sigmoid()
        return F.silu(x_BCHW + h_BCHW * gate)


class _Mapl(Connector):
    """A narrow transformer over features and learned vectors, of which the vectors are kept."""

    def __init__(self, config: ConnectorConfig, channels: int, width: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.into = nn.Linear(channels, hidden)
        self.queries_QH = nn.Parameter(torch.randn(config.queries, hidden) * 0.02)
        layer = nn.TransformerEncoderLayer(
            hidden, config.heads, 4 * hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
        self.out = nn.Linear(hidden, width)

    def forward(self, features_BSC: Tensor) -> Tensor:
        queries_BQH = self.queries_QH.expand(len(features_BSC), -1, -1)
        x_BTH = self.encoder(torch.cat([self.into(features_BSC), queries_BQH], dim=1))
        out: Tensor = self.out(x_BTH[:, -queries_BQH.shape[1] :])
        return out


def _word_sized(linear: nn.Linear) -> nn.Linear:
    """A fresh map whose vectors begin about as long as words, where features are about 1.

    A norm that reads them makes the loss blind to their length, so that training would not find it: vectors that are
    many times longer drown what a frozen language model's blocks add to them.
    """
    nn.init.normal_(linear.weight, std=_WORD * linear.in_features**-0.5)
    nn.init.zeros_(linear.bias)
    return linear


def _grid(features_BSC: Tensor) -> Tensor:
    """[B, C, H, W] of a square grid in raster order."""
    side = round(features_BSC.shape[1] ** 0.5)
    return features_BSC.transpose(1, 2).reshape(len(features_BSC), -1, side, side)
