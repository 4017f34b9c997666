"""One transformer over words and codes of pictures: embedding, trunk, head, and the frozen tokenizer of pictures.

B batch, T tokens, D width, V vocabulary, P codes of a picture, K codes there are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.decoding.decoder import Decoder
from diptych.layers.causal_block import CausalConfig
from diptych.layers.causal_transformer import CausalTransformer
from diptych.layers.small_batch_linear import SmallBatchLinear
from diptych.models.generative._document_layout import Layout, Places
from diptych.models.generative._memory import Memory
from diptych.models.generative._picture_codes import PictureCodes


class CodeDecoder:
    """A decoder of a picture's codes, by number, over one that reads them as tokens of the whole vocabulary."""

    def __init__(self, whole: Decoder, first: int) -> None:
        self._whole, self._first = whole, first

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """[N, K]."""
        return self._whole.next_logits(None if tokens_N is None else tokens_N + self._first)

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._whole.select(rows_M)


class DocumentModel(nn.Module):
    """Reads and writes documents.

    Args:
        words: ids of the text's tokenizer.
        context: the longest document in tokens.
        memory: of documents that stand before others; None for none.
        places: where codes lie among the words of a vocabulary made elsewhere; None for after them.
    """

    def __init__(
        self, trunk: CausalConfig, codes: PictureCodes, words: int, context: int, sentinels: int = 0,
        memory: Memory | None = None, places: Places | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        rows, columns = codes.grid()
        self.layout = Layout(words, codes.vocabulary, rows * columns, sentinels, places)
        if self.layout.length + 4 > context:
            raise ConfigError(
                f"a picture of {self.layout.length} codes and a word do not fit documents of {context} tokens"
            )
        self.context = context
        self.tokenizer = codes.build()
        self.memory = memory
        self.embedding = nn.Embedding(self.layout.size, trunk.width)
        self.trunk = CausalTransformer(trunk)
        self.positions_TD = None if trunk.rotary else nn.Parameter(torch.randn(context, trunk.width) * 0.02)
        self.head = SmallBatchLinear(trunk.width, self.layout.size, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=trunk.width**-0.5)

    def embed(self, tokens_BT: Tensor, places_BT: Tensor) -> Tensor:
        """Tokens [B, T, D], with their places where the trunk does not turn them."""
        x_BTD: Tensor = self.embedding(tokens_BT)
        return x_BTD if self.positions_TD is None else x_BTD + self.positions_TD[places_BT]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """States [B, T, D]."""
        places_1T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None]
        out: Tensor = self.trunk(self.embed(tokens_BT, places_1T))
        return out

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        out: Tensor = self.head(states)
        return out

    def code_logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., K]: of a place where only a code may come."""
        return self.logits(states)[..., self.layout.first : self.layout.first + self.layout.codes]
