"""A frozen language model with gated cross-attention before its blocks: Flamingo's module.

The pictures of a row are vectors beside it. A word looks at those of the last picture before it; of the others it knows
what the words between have passed on.

B conversations, T tokens, N pictures of all of them, M pictures of a row at most, Q vectors of a picture, C their
width, S = M * Q, H heads, K head width, D width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.decoding.decoder import Decoder
from diptych.layers.connectors import Connector
from diptych.layers.gated_cross_attention import GatedCross, GatedCrossConfig, PictureKeys
from diptych.models.pretrained_backbone._language_model import CausalModel, LanguageModel, Said
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefixed import Prefixed, Trained


class Sight(NamedTuple):
    """What the tokens of some rows see.

    Attributes:
        known: keys and values [B, H, S, K] of the rows' pictures, for each block that reads them.
        mask_BTS: True where a token may look.
    """

    known: tuple[tuple[Tensor, Tensor], ...]
    mask_BTS: Tensor

    def of_the_next(self) -> Sight:
        """What a token sees that follows the last one."""
        return Sight(self.known, self.mask_BTS[:, -1:])

    def select(self, rows: Tensor) -> Sight:
        """Of some rows, in this order."""
        return Sight(tuple((k[rows], v[rows]) for k, v in self.known), self.mask_BTS[rows])


class Crossed(Prefixed):
    """Reads conversations; a picture's place among the words is held by one token, whose vector is as it was.

    Attributes:
        crossings: the blocks that read pictures, in order.
        picture_keys: what each of them finds in the pictures.
    """

    def __init__(
        self, tower: PatchFeatures, connector: Connector, language: LanguageModel, config: GatedCrossConfig,
        channels: int,
    ) -> None:  # fmt: skip
        """
        Args:
            channels: C.

        Raises:
            ConfigError: the language model is an encoder-decoder, or its blocks cannot be told.
        """
        super().__init__(tower, connector, language)
        if not isinstance(language, CausalModel):
            raise ConfigError("gated cross-attention stands between the blocks of a causal language model: name one")
        before = language.blocks()[:: config.every]
        self.crossings = nn.ModuleList(GatedCross(config, language.inner_width) for _ in before)
        self.picture_keys = nn.ModuleList(PictureKeys(config, channels) for _ in before)
        self._channels = channels
        self._sight: Sight | None = None
        for place, block in enumerate(before):
            block.register_forward_pre_hook(partial(self._read, place))

    def set_trained(self, trained: Trained) -> None:
        super().set_trained(trained)
        self.crossings.requires_grad_(trained.connector)
        self.picture_keys.requires_grad_(trained.connector)

    def set_packed(self, room: int) -> None:
        """Raises ConfigError where conversations are to share rows: which picture is whose would be lost."""
        if room:
            raise ConfigError("conversations that share rows would see one another's pictures: set packed to 0")

    def forward(self, batch: ConversationBatch) -> Said:
        """What is said of a batch."""
        seen_NQC = self.seen(batch) if any(batch.counts) else None
        with self.looking(self.sight(seen_NQC, batch.places_BT)):
            return self.language.said(self.language.embed(batch.tokens_BT), batch.lengths_B, batch.labels_BT)

    def sight(self, seen_NQC: Tensor | None, places_BT: Tensor) -> Sight:
        """What each token sees: of its row's pictures the last one before it, or at it.

        Args:
            seen_NQC: the first row's pictures first; None where there is none in any row.
            places_BT: True at the token that holds a picture's place.
        """
        counts_B = places_BT.sum(1)
        most, queries = max(int(counts_B.max()), 1), 1 if seen_NQC is None else seen_NQC.shape[1]
        slots_M = torch.arange(most, device=places_BT.device)
        seen_BMQC = self._padded(seen_NQC, slots_M < counts_B[:, None])
        mask_BTM = places_BT.cumsum(1)[..., None] == slots_M + 1
        return Sight(
            tuple(keys(seen_BMQC.flatten(1, 2)) for keys in self.picture_keys),
            mask_BTM.repeat_interleave(queries, dim=2),
        )

    def _padded(self, seen_NQC: Tensor | None, there_BM: Tensor) -> Tensor:
        if seen_NQC is None:
            return torch.zeros(*there_BM.shape, 1, self._channels, device=there_BM.device, dtype=self._dtype())
        assert int(there_BM.sum()) == len(seen_NQC), "as many places as pictures"
        padded_BMQC = seen_NQC.new_zeros(*there_BM.shape, *seen_NQC.shape[1:])
        padded_BMQC[there_BM] = seen_NQC
        return padded_BMQC

    @contextmanager
    def looking(self, sight: Sight) -> Iterator[None]:
        """Within it the language model's blocks see this; outside of it the language model is what it was."""
        self._sight = sight
        try:
            yield
        finally:
            self._sight = None

    def _read(self, place: int, block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._sight is None:
            return None
        x_BTD, *rest = inputs
        k_BHSK, v_BHSK = self._sight.known[place]
        return self.gated_blocks()[place](x_BTD, k_BHSK, v_BHSK, self._sight.mask_BTS), *rest

    def gated_blocks(self) -> list[GatedCross]:
        """The blocks that read pictures, as what they are."""
        return [crossing for crossing in self.crossings if isinstance(crossing, GatedCross)]

    def _dtype(self) -> torch.dtype:
        return self.gated_blocks()[0].query.weight.dtype


class CrossedDecoder:
    """The language model's own decoder, which sees each row's pictures."""

    def __init__(self, module: Crossed, rows: Sequence[Tensor], room: int, sight: Sight) -> None:
        """
        Args:
            rows: vectors [T, D] of the prompts.
            room: the longest row, prompt included.
            sight: of the rows padded at the left, as decoders read them.

        Raises:
            TextTooLong: a prompt leaves no room for one more token.
        """
        self._module = module
        with module.looking(sight):
            self._inner: Decoder = module.language.decoder(rows, room)
        self._sight = sight.of_the_next()

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """Logits [N, V] of each row's next token."""
        with self._module.looking(self._sight):
            return self._inner.next_logits(tokens_N)

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._inner.select(rows_M)
        self._sight = self._sight.select(rows_M)
