"""Any encoder-decoder of `transformers` as a language model: T5 and its kin, as they are.

The encoder reads what is told, vectors among them, in both directions; the decoder says the answer. Of a conversation
with several answers the last is said, and the earlier ones are told.

B batch, T tokens, S of what is told, A of an answer, N rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError, TextTooLong
from diptych.core.losses import IGNORED
from diptych.decoding.decoder import Decoder
from diptych.models.pretrained_backbone._language_model import LanguageModel, Said
from diptych.models.pretrained_backbone._transformers_lm import cache_name

_PROBED = 5
"""Tokens by which a model's head is tried."""
_UNTIED = "untied_head"
"""In a configuration: the library ties T5's head to its embedding unless weights say otherwise."""


class EncoderDecoder(LanguageModel):
    """A model whose logits are its head's, of the decoder's states as they are or divided by the root of their width.

    Raises:
        ConfigError: they are not, or no token is named that the decoder begins with.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.start = self._start_token()
        self.cache = cache_name(self.model.get_decoder())  # type: ignore[operator]
        self._scale = self._scale_of_head()

    @property
    def _config(self) -> Any:
        return self.model.config

    @property
    def width(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[1])  # type: ignore[operator]

    @property
    def vocabulary(self) -> int:
        return int(self.model.get_output_embeddings().weight.shape[0])  # type: ignore[operator]

    @property
    def context(self) -> int:
        """T5's positions are relative, and end nowhere."""
        return int(getattr(self._config, "max_position_embeddings", None) or 1 << 20)

    def embed(self, tokens_BT: Tensor) -> Tensor:
        out: Tensor = self.model.get_input_embeddings()(tokens_BT)  # type: ignore[operator]
        return out

    def said(self, x_BTD: Tensor, lengths_B: Tensor, labels_BT: Tensor) -> Said:
        places_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        begin_B, end_B = last_answers(labels_BT, lengths_B)
        told = int(begin_B.max())
        assert told, "something is told"
        seen_BS = places_T[:told] < begin_B[:, None]
        answers_BA, inside_BA = _cut(labels_BT, begin_B, end_B)
        begun_BA = torch.cat([torch.full_like(begin_B[:, None], self.start), answers_BA[:, :-1]], dim=1)
        states_BAD = self.decoded(begun_BA, self.encode(x_BTD[:, :told], seen_BS), seen_BS).last_hidden_state
        return Said(states_BAD, answers_BA.masked_fill(~inside_BA, IGNORED))

    def encode(self, x_BSD: Tensor, seen_BS: Tensor) -> Tensor:
        """States [B, S, D] of what is told."""
        encoder: Any = self.model.get_encoder()  # type: ignore[operator]
        out: Tensor = encoder(inputs_embeds=x_BSD, attention_mask=seen_BS.long()).last_hidden_state
        return out

    def decoded(
        self, tokens_BA: Tensor, told_BSD: Tensor, seen_BS: Tensor, past: Any = None, keep: bool = False
    ) -> Any:
        """What the decoder gives for tokens that follow those of its cache.

        Args:
            past: its cache.
            keep: whether a cache is kept.
        """
        decoder: Any = self.model.get_decoder()  # type: ignore[operator]
        return decoder(
            input_ids=tokens_BA, encoder_hidden_states=told_BSD, encoder_attention_mask=seen_BS.long(),
            use_cache=keep, **{self.cache: past},
        )  # fmt: skip

    def logits(self, states: Tensor) -> Tensor:
        out: Tensor = self.model.get_output_embeddings()(states * self._scale)  # type: ignore[operator]
        return out

    def decoder(self, rows: Sequence[Tensor], room: int) -> Decoder:
        return EncoderDecoderDecoder(self, rows, room)

    def write_config(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        setattr(self._config, _UNTIED, self._untied())
        self._config.save_pretrained(folder)

    def _start_token(self) -> int:
        generation: Any = getattr(self.model, "generation_config", None)
        for config in (self._config, generation):
            if (found := getattr(config, "decoder_start_token_id", None)) is not None:
                return int(found)
        raise ConfigError(
            f"this {type(self.model).__name__} names no token that its decoder begins with: write "
            f"decoder_start_token_id into its config.json"
        )

    def _untied(self) -> bool:
        inner, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()  # type: ignore[operator]
        return head.weight is not inner.weight

    @torch.no_grad()
    def _scale_of_head(self) -> float:
        like = self.model.get_input_embeddings().weight  # type: ignore[operator]
        x_1TD = like[: min(_PROBED, len(like))][None]
        begun_11 = torch.full((1, 1), self.start, device=like.device)
        whole: Any = self.model(inputs_embeds=x_1TD, decoder_input_ids=begun_11, use_cache=False)
        seen_1S = torch.ones(x_1TD.shape[:2], dtype=torch.bool, device=like.device)
        states_11D = self.decoded(begun_11, self.encode(x_1TD, seen_1S), seen_1S).last_hidden_state
        head: Any = self.model.get_output_embeddings()  # type: ignore[operator]
        for scale in (1.0, self.width**-0.5):
            if torch.allclose(head(states_11D * scale), whole.logits, rtol=1e-3, atol=1e-4):
                return scale
        kind = type(self.model).__name__
        raise ConfigError(f"{kind} changes its logits after its head, which is not done here: choose another model")


def untie(model: Any) -> None:
    """Gives the head weights of its own where the configuration says so."""
    if getattr(model.config, _UNTIED, False):
        model.get_output_embeddings().weight = nn.Parameter(model.get_input_embeddings().weight.detach().clone())


def last_answers(labels_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """First place [B] of each row's last answer, and the one after it; the row's length, twice, where it has none."""
    places_T = torch.arange(labels_BT.shape[1], device=labels_BT.device)
    said_BT = (labels_BT != IGNORED) & (places_T < lengths_B[:, None])
    any_B = said_BT.any(1)
    end_B = torch.where(any_B, torch.where(said_BT, places_T, -1).amax(1) + 1, lengths_B)
    told_BT = ~said_BT & (places_T < end_B[:, None])
    begin_B = torch.where(told_BT, places_T, -1).amax(1) + 1
    return begin_B, end_B


def _cut(labels_BT: Tensor, begin_B: Tensor, end_B: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [B, A] between two places of each row, the row's last token behind them, and whether they are inside."""
    longest = max(int((end_B - begin_B).max()), 1)
    places_BA = begin_B[:, None] + torch.arange(longest, device=labels_BT.device)
    inside_BA = places_BA < end_B[:, None]
    tokens_BA = labels_BT.gather(1, places_BA.clamp(max=labels_BT.shape[1] - 1))
    return tokens_BA.masked_fill(~inside_BA, 0), inside_BA


class EncoderDecoderDecoder:
    """Reads prompts of vectors once, then says one token of every row at a time, by the model's own cache."""

    def __init__(self, language: EncoderDecoder, rows: Sequence[Tensor], room: int) -> None:
        longest = max(len(row) for row in rows)
        if longest >= room:
            raise TextTooLong(f"a prompt of {longest} tokens leaves no room to go on in {room}: shorten it")
        self._language = language
        lengths_N = torch.tensor([len(row) for row in rows], device=rows[0].device)
        self._seen_NS = torch.arange(longest, device=rows[0].device) < lengths_N[:, None]
        x_NSD = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        self._told_NSD = language.encode(x_NSD, self._seen_NS)
        self._past: Any = None

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """Logits [N, V] of each row's next token."""
        rows = len(self._seen_NS)
        start_N = torch.full((rows,), self._language.start, device=self._seen_NS.device)
        tokens_N1 = (start_N if tokens_N is None else tokens_N)[:, None]
        found = self._language.decoded(tokens_N1, self._told_NSD, self._seen_NS, self._past, keep=True)
        self._past = getattr(found, self._language.cache)
        return self._language.logits(found.last_hidden_state[:, -1])

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._seen_NS, self._told_NSD = self._seen_NS[rows_M], self._told_NSD[rows_M]
        if self._past is not None:
            self._past.batch_select_indices(rows_M)
