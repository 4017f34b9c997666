"""Any causal language model of `transformers` as a part: OPT, GPT-2, Qwen and the rest, as they are.

N rows, T tokens, S tokens read so far, D width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.adapters.prefix import KeySizes
from diptych.core.errors import ConfigError, TextTooLong
from diptych.decoding.decoder import Decoder
from diptych.layers.backbone_folder import transformers_for
from diptych.models.pretrained_backbone._language_model import CausalModel, KeyedModel, Known, Words

_PROBED = 5
"""Vectors by which a model's head is tried."""


class TransformersLm(CausalModel, KeyedModel):
    """A model whose logits are its head's, of the states that its body gives.

    Raises:
        ConfigError: they are not (logits that are scaled or capped afterwards).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._takes_places = "position_ids" in inspect.signature(self._body.forward).parameters
        self._require_a_plain_head()

    @property
    def _body(self) -> Any:
        return self.model.base_model

    @property
    def width(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[1])  # type: ignore[operator]

    @property
    def vocabulary(self) -> int:
        return int(self.model.get_output_embeddings().weight.shape[0])  # type: ignore[operator]

    @property
    def context(self) -> int:
        config: Any = self.model.config
        return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 0) or 1 << 20)

    @property
    def inner_width(self) -> int:
        config: Any = self.model.config
        return int(config.hidden_size)

    def blocks(self) -> Sequence[nn.Module]:
        config: Any = self.model.config
        for part in self._body.modules():
            if isinstance(part, nn.ModuleList) and len(part) == config.num_hidden_layers:
                return list(part)
        kind = type(self.model).__name__
        raise ConfigError(f"{kind} keeps its {config.num_hidden_layers} blocks in no list: choose another model")

    def embed(self, tokens_BT: Tensor) -> Tensor:
        out: Tensor = self.model.get_input_embeddings()(tokens_BT)  # type: ignore[operator]
        return out

    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        seen_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) < lengths_B[:, None]
        out: Tensor = self._body(
            inputs_embeds=x_BTD, attention_mask=seen_BT.long(), use_cache=False, **self.places(seen_BT)
        ).last_hidden_state
        return out

    def logits(self, states: Tensor) -> Tensor:
        out: Tensor = self.model.get_output_embeddings()(states)  # type: ignore[operator]
        return out

    def decoder(self, rows: Sequence[Tensor], room: int, words: Words | None = None) -> Decoder:
        return TransformersDecoder(self, rows, room, words=words)

    @property
    def key_sizes(self) -> KeySizes:
        config: Any = self.model.config
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return KeySizes(config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or heads, width)

    def read_after(self, x_BTD: Tensor, lengths_B: Tensor, known: Known) -> Tensor:
        seen_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) < lengths_B[:, None]
        found = self.body_after(x_BTD, seen_BT, self._cache_of(known, x_BTD), known[0][0].shape[1])
        out: Tensor = found.last_hidden_state
        return out

    def decoder_after(self, x_NTD: Tensor, room: int, known: Known) -> Decoder:
        return TransformersDecoder(self, list(x_NTD), room, self._cache_of(known, x_NTD), known[0][0].shape[1])

    def body_after(self, x_NTD: Tensor, seen_NS: Tensor, past: Any, before: int) -> Any:
        """What the body says of vectors at the end of all that is seen, with its cache.

        Args:
            before: places that the cache knew before anything was read.
        """
        whole_NS = torch.cat([seen_NS.new_ones(len(seen_NS), before), seen_NS], dim=1)
        places = {name: one[:, -x_NTD.shape[1] :] for name, one in self.places(whole_NS).items()}
        cache = {cache_name(self._body): past}
        return self._body(inputs_embeds=x_NTD, attention_mask=whole_NS.long(), use_cache=True, **cache, **places)

    def _cache_of(self, known: Known, like: Tensor) -> Any:
        cache = transformers_for("a language model").DynamicCache(config=self.model.config)
        for layer, pair in enumerate(known):
            cache.update(*(part.to(like.dtype).expand(len(like), -1, -1, -1) for part in pair), layer)
        return cache

    def write_config(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config: Any = self.model.config
        config.save_pretrained(folder)

    def places(self, seen_NS: Tensor) -> dict[str, Tensor]:
        """The place of each token in its row, where the model takes it; 0 on padding."""
        return {"position_ids": (seen_NS.long().cumsum(1) - 1).clamp(min=0)} if self._takes_places else {}

    @torch.no_grad()
    def _require_a_plain_head(self) -> None:
        like = self.model.get_input_embeddings().weight  # type: ignore[operator]
        x_1TD = like[: min(_PROBED, len(like))][None]
        whole: Tensor = self.model(inputs_embeds=x_1TD, use_cache=False).logits
        states_1TD = self(x_1TD, torch.tensor([x_1TD.shape[1]], device=like.device))
        if not torch.allclose(self.logits(states_1TD), whole, rtol=1e-3, atol=1e-4):
            kind = type(self.model).__name__
            raise ConfigError(f"{kind} changes its logits after its head, which is not done here: choose another model")


def cache_name(body: nn.Module) -> str:
    """What the library calls a cache, which has changed."""
    return "cache" if "cache" in inspect.signature(body.forward).parameters else "past_key_values"


class TransformersDecoder:
    """Reads prompts of vectors once, then one token of every row at a time, by the model's own cache."""

    def __init__(
        self,
        language: TransformersLm,
        rows: Sequence[Tensor],
        room: int,
        past: Any = None,
        before: int = 0,
        words: Words | None = None,
    ) -> None:
        """
        Args:
            past: a cache that knows something already.
            before: how many places that is.
            words: of another vocabulary, in the place of the model's own.
        """
        longest = max(len(row) for row in rows)
        if before + longest >= room:
            raise TextTooLong(f"a prompt of {before + longest} tokens leaves no room to go on in {room}: shorten it")
        self._language, self._before, self._words = language, before, words or language
        x_NTD = rows[0].new_zeros(len(rows), longest, rows[0].shape[1])
        self._seen_NS = torch.zeros(len(rows), longest, dtype=torch.bool, device=x_NTD.device)
        for place, row in enumerate(rows):
            x_NTD[place, longest - len(row) :] = row
            self._seen_NS[place, longest - len(row) :] = True
        self._past = past
        self._first: Tensor | None = self._read(x_NTD)

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """Logits [N, V] of each row's next token."""
        if tokens_N is None:
            assert self._first is not None, "the prompt's logits are asked for once"
            logits_NV, self._first = self._first, None
            return logits_NV
        self._seen_NS = torch.cat([self._seen_NS, self._seen_NS.new_ones(len(tokens_N), 1)], dim=1)
        return self._read(self._words.embed(tokens_N[:, None]))

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._seen_NS = self._seen_NS[rows_M]
        self._past.batch_select_indices(rows_M)
        if self._first is not None:
            self._first = self._first[rows_M]

    def _read(self, x_NTD: Tensor) -> Tensor:
        found = self._language.body_after(x_NTD, self._seen_NS, self._past, self._before)
        self._past = getattr(found, cache_name(self._language.model.base_model))  # type: ignore[arg-type]
        return self._words.logits(found.last_hidden_state[:, -1])
